package recording

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"
	recordingv1 "github.com/openova-io/bp-relay/gen/relay/recording/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/internal/act"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/idem"
	"github.com/openova-io/bp-relay/services/store"
)

// defaultRetention is the class of recordings that ask for none.
const defaultRetention = "default-90d"

// StartRecording writes the record, opens the capture, sends the recorder
// into the room, and answers when it is there. A call that gives up leaves a
// recording that goes on starting: its retry finds it.
func (s *Service) StartRecording(ctx context.Context, req *recordingv1.StartRecordingRequest) (*recordingv1.StartRecordingResponse, error) {
	key, err := idem.Key(auth.From(ctx).Org, recordingv1.RecordingService_StartRecording_FullMethodName, req)
	if err != nil {
		return nil, err
	}
	if answer, err := s.remembered(ctx, key); answer != nil || err != nil {
		return answer, err
	}
	room, err := s.cfg.Rooms.GetRoom(ctx, &roomv1.GetRoomRequest{Name: req.GetRoom()})
	if err != nil {
		return nil, err
	}
	if room.GetRoom().GetState() != roomv1.Room_STATE_OPEN {
		return nil, errRoomGone(req.GetRoom())
	}
	r, answer, err := s.begin(ctx, req, key, room.GetRoom().GetUid())
	if answer != nil || err != nil {
		return answer, err
	}
	late := time.NewTimer(s.cfg.JoinTimeout)
	defer late.Stop()
	for {
		select {
		case <-r.joined:
			return r.answer, nil
		case <-r.left:
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.failed == nil {
				return nil, errState(r.name, "it ended while it was starting")
			}
			return nil, r.failed
		case <-late.C:
			r.stop(errLate)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// remembered is the first answer to a request, nil where there is none.
func (s *Service) remembered(ctx context.Context, key store.RequestKey) (*recordingv1.StartRecordingResponse, error) {
	answer := new(recordingv1.StartRecordingResponse)
	known := false
	err := s.cfg.Store.View(ctx, func(tx store.Tx) (err error) {
		known, err = idem.Replay(ctx, tx, key, answer)
		return err
	})
	if err != nil || !known {
		return nil, err
	}
	return answer, nil
}

// begin makes the recording and starts its run. A room's starts go one after
// another, by a lease. A retry of a start that is under way gets that one's
// run, or its answer.
func (s *Service) begin(ctx context.Context, req *recordingv1.StartRecordingRequest, key store.RequestKey, uid string) (*run, *recordingv1.StartRecordingResponse, error) {
	turn, err := s.turn(ctx, req.GetRoom())
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = turn.Release(context.WithoutCancel(ctx)) }() // it runs out otherwise
	if answer, err := s.remembered(ctx, key); answer != nil || err != nil {
		return nil, answer, err
	}
	var other *store.Record
	err = s.cfg.Store.View(ctx, func(tx store.Tx) (err error) {
		other, err = busy(ctx, tx, req.GetRoom())
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	if other != nil {
		r, err := s.underWay(*other, key)
		return r, nil, err
	}
	// From here on the recording is begun whether the caller waits or not.
	r, err := s.create(context.WithoutCancel(ctx), req, key, uid)
	return r, nil, err
}

// turn waits for the lease of the room's starts.
func (s *Service) turn(ctx context.Context, room string) (bus.Lease, error) {
	for {
		lease, err := s.cfg.Bus.Acquire(ctx, "recording-start:"+room, startTimeout)
		if !errors.Is(err, bus.ErrHeld) {
			if err != nil {
				return nil, apierr.New(codes.Unavailable, errorsv1.Reason_REASON_RECORDS_UNAVAILABLE,
					"the live state does not answer; try again with the same request_id").WithRetry(time.Second).Because(err)
			}
			return lease, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// underWay gives a retry of a start its run; another start is refused.
func (s *Service) underWay(rec store.Record, key store.RequestKey) (*run, error) {
	d, err := parse(rec)
	if err != nil {
		return nil, err
	}
	if d.Request != nil && key.ID != "" && d.Request.ID == key.ID {
		if !slices.Equal(d.Request.Hash, key.Hash) {
			return nil, store.ErrRequestReused
		}
		if r := s.find(rec.Name); r != nil {
			return r, nil
		}
		return nil, apierr.New(codes.Unavailable, errorsv1.Reason_REASON_RECORDS_UNAVAILABLE,
			"this start is under way on another replica; try again with the same request_id").WithRetry(time.Second)
	}
	return nil, errRunning(d.Room, rec.Name)
}

func (s *Service) create(ctx context.Context, req *recordingv1.StartRecordingRequest, key store.RequestKey, uid string) (*run, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("recording id: %w", err)
	}
	name := req.GetParent() + "/recordings/" + id.String()
	d := document{
		Room: req.GetRoom(), RoomUID: uid, Mode: capture.BestEffort, Retention: req.GetRetentionClass(), Actor: auth.From(ctx).Subject,
		Capture: req.GetParent() + "/captures/" + id.String(), Created: time.Now().UTC(),
	}
	if req.GetMode() == recordingv1.Mode_MODE_REQUIRED {
		d.Mode = capture.Required
	}
	if d.Retention == "" {
		d.Retention = defaultRetention
	}
	if key.ID != "" {
		d.Request = &key
	}
	lease, err := s.cfg.Bus.Acquire(ctx, leaseName(name), leaseTTL)
	if err != nil {
		return nil, fmt.Errorf("take the recording's lease: %w", err)
	}
	if err := s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		_, err := insert(ctx, tx, name, d)
		return err
	}); err != nil {
		_ = lease.Release(ctx) // it runs out otherwise
		return nil, err
	}
	c, err := s.cfg.Captures.Open(ctx, capture.Meta{
		Name: d.Capture, Org: act.Org(name), Owner: name, Bucket: s.cfg.Bucket, Retention: d.Retention, Mode: d.Mode, Actor: d.Actor,
		Attributes: map[string]string{"room": d.Room},
	})
	r := s.newRun(name, d, c, lease)
	if err == nil && !r.start() {
		err = apierr.New(codes.Unavailable, errorsv1.Reason_REASON_SERVICE_NOT_HERE, "this replica stops; try again with the same request_id").WithRetry(time.Second)
	}
	if err != nil {
		r.release()
		_, failed := s.change(ctx, name, d.Actor, stateFailed, func(d *document) {
			d.End, d.EndReason, d.Error = time.Now().UTC(), "failed", "nothing could be recorded: "+apierr.FromDomain(errSpool(err)).Message()
		}, nil)
		r.log.Warn("recording never began", "error", err)
		return nil, errors.Join(errSpool(err), failed)
	}
	return r, nil
}

// StopRecording has the recorder leave. Storing goes on behind.
func (s *Service) StopRecording(ctx context.Context, req *recordingv1.StopRecordingRequest) (*recordingv1.StopRecordingResponse, error) {
	rec, err := s.get(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	m, err := message(rec)
	if err != nil {
		return nil, err
	}
	if req.GetEtag() != "" && req.GetEtag() != m.GetEtag() {
		return nil, store.ErrConflict
	}
	if slices.Contains(running(), rec.State) {
		rec, err = s.change(ctx, rec.Name, auth.From(ctx).Subject, stateStopping, func(d *document) {
			d.End, d.EndReason = time.Now().UTC(), "stopped"
		}, nil)
		if _, wrong := errors.AsType[*stateError](err); wrong { // it has just ended by itself
			rec, err = s.get(ctx, rec.Name)
		}
		if err != nil {
			return nil, err
		}
	}
	if r := s.find(rec.Name); r != nil {
		if state(rec.State) == stateStopping {
			r.stop(errStopped)
		}
		select {
		case <-r.left:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if rec, err = s.get(ctx, rec.Name); err != nil {
			return nil, err
		}
	} else if state(rec.State) == stateStopping {
		// Another replica looks at the record every second.
		select {
		case <-time.After(2 * tick):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if m, err = message(rec); err != nil {
		return nil, err
	}
	return &recordingv1.StopRecordingResponse{Recording: m}, nil
}

func errRunning(room, recording string) error {
	return apierr.New(codes.AlreadyExists, errorsv1.Reason_REASON_RECORDING_RUNNING,
		fmt.Sprintf("%s is being recorded by %s; stop that one first, or use it", room, recording), "room", room, "recording", recording)
}

func errRoomGone(room string) error {
	return apierr.New(codes.FailedPrecondition, errorsv1.Reason_REASON_ROOM_NOT_OPEN,
		room+" is not open; create it again, then record it", "name", room)
}

func errNoLiveKit(cause error) error {
	return apierr.New(codes.Unavailable, errorsv1.Reason_REASON_LIVEKIT_UNAVAILABLE,
		"the recorder did not get into the room; nothing is being recorded, try again").WithRetry(2 * time.Second).Because(cause)
}

func errState(name, what string) error {
	return apierr.New(codes.FailedPrecondition, errorsv1.Reason_REASON_RECORDING_STATE, name+": "+what+"; read it to see why", "name", name)
}

func errSpool(cause error) error {
	if errors.Is(cause, capture.ErrSpoolFull) {
		return apierr.New(codes.FailedPrecondition, errorsv1.Reason_REASON_SPOOL_FULL,
			"the spool is full, so nothing can be recorded; wait until the object store has taken what is in it").Because(cause)
	}
	return cause
}
