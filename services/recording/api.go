package recording

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"
	recordingv1 "github.com/openova-io/bp-relay/gen/relay/recording/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/change"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/records"
)

// defaultRetention is the class of recordings that ask for none.
const defaultRetention = "default-90d"

// StartRecording writes the record, opens the capture, has the recorder join
// the room, and answers once it has. If the caller gives up, the recording goes
// on starting, and a retry finds it.
func (s *Service) StartRecording(ctx context.Context, req *recordingv1.StartRecordingRequest) (*recordingv1.StartRecordingResponse, error) {
	key, err := resource.RequestKey(auth.From(ctx).Org, recordingv1.RecordingService_StartRecording_FullMethodName, req)
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
			if !r.beginning().IsZero() { // it records; only its record is late
				return nil, fmt.Errorf("write that %s is active: %w", r.name, records.ErrUnavailable)
			}
			r.stop(errLate)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// remembered returns the first answer to a request, or nil.
func (s *Service) remembered(ctx context.Context, key records.RequestKey) (*recordingv1.StartRecordingResponse, error) {
	answer := new(recordingv1.StartRecordingResponse)
	known := false
	err := s.cfg.Records.View(ctx, func(tx records.Tx) (err error) {
		known, err = resource.Replay(ctx, tx, key, answer)
		return err
	})
	if err != nil || !known {
		return nil, err
	}
	return answer, nil
}

// begin creates the recording and starts its run. A retry of a start that is in
// progress gets its run, or its answer. Of two starts at once, the room's record
// lets one through (see insert); the other one finds it here.
func (s *Service) begin(ctx context.Context, req *recordingv1.StartRecordingRequest, key records.RequestKey, uid string) (*run, *recordingv1.StartRecordingResponse, error) {
	for try := 1; ; try++ {
		if answer, err := s.remembered(ctx, key); answer != nil || err != nil {
			return nil, answer, err
		}
		var other *records.Record
		err := s.cfg.Records.View(ctx, func(tx records.Tx) (err error) {
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
		// From here on the recording begins whether the caller waits or not.
		r, err := s.create(context.WithoutCancel(ctx), req, key, uid)
		if try == 1 && apierr.ReasonOf(err) == apierr.ReasonName(errorsv1.Reason_REASON_RECORDING_RUNNING) {
			continue
		}
		return r, nil, err
	}
}

// underWay returns the run of a start to its retry; another start is refused.
func (s *Service) underWay(rec records.Record, key records.RequestKey) (*run, error) {
	d, err := resource.Body[document](rec)
	if err != nil {
		return nil, err
	}
	if d.Request != nil && key.ID != "" && d.Request.ID == key.ID {
		if !slices.Equal(d.Request.Hash, key.Hash) {
			return nil, records.ErrRequestReused
		}
		if r := s.find(rec.Name); r != nil {
			return r, nil
		}
		return nil, apierr.New(codes.Unavailable, errorsv1.Reason_REASON_REQUEST_IN_PROGRESS,
			"this start is under way on another replica; try again with the same request_id").WithRetry(time.Second)
	}
	return nil, errRunning(d.Room, rec.Name)
}

func (s *Service) create(ctx context.Context, req *recordingv1.StartRecordingRequest, key records.RequestKey, uid string) (*run, error) {
	name, err := recordings().NewName(resource.Org(req.GetParent()))
	if err != nil {
		return nil, err
	}
	d := document{
		Room: req.GetRoom(), RoomUID: uid, Mode: capture.BestEffort, Retention: req.GetRetentionClass(), Actor: auth.From(ctx).Subject,
		Capture: req.GetParent() + "/captures/" + path.Base(name), Created: time.Now().UTC(),
		Replica: s.cfg.Captures.Replica().ID(), Epoch: 1,
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
	// Before anything begins: a recording without room would soon end its room.
	if err := s.cfg.Captures.Admits(resource.Org(name), d.Mode); err != nil {
		return nil, capture.Answer(err)
	}
	defer s.hold(name)()
	if err := s.cfg.Records.Update(ctx, func(tx records.Tx) error {
		return insert(ctx, tx, name, d)
	}); err != nil {
		return nil, err
	}
	c, err := s.cfg.Captures.Open(ctx, capture.Meta{
		Name: d.Capture, Org: resource.Org(name), Owner: name, Bucket: s.cfg.Bucket, Retention: d.Retention, Mode: d.Mode, Actor: d.Actor,
		Attributes: map[string]string{"room": d.Room},
	})
	r := s.newRun(name, d, c)
	if err == nil && !r.start(r.run) {
		err = apierr.New(codes.Unavailable, errorsv1.Reason_REASON_STOPPING, "this replica is stopping; try again with the same request_id").WithRetry(time.Second)
	}
	if err != nil {
		_, failed := s.advance(ctx, name, step(fail, d.Actor, func(d *document) {
			d.End, d.EndReason, d.Error = time.Now().UTC(), "failed", "nothing could be recorded: "+apierr.FromDomain(capture.Answer(err)).Message()
		}))
		r.log.WarnContext(ctx, "recording never began", "error", err)
		return nil, errors.Join(capture.Answer(err), failed)
	}
	return r, nil
}

// StopRecording makes the recorder leave. Storing goes on in the background.
func (s *Service) StopRecording(ctx context.Context, req *recordingv1.StopRecordingRequest) (*recordingv1.StopRecordingResponse, error) {
	rec, err := s.get(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	if err := resource.CheckEtag(rec, req.GetEtag()); err != nil {
		return nil, err
	}
	if slices.Contains(running(), rec.State) {
		rec, err = s.advance(ctx, rec.Name, step(stop, auth.From(ctx).Subject, func(d *document) {
			d.End, d.EndReason = time.Now().UTC(), "stopped"
		}))
		if _, wrong := errors.AsType[*change.StateError](err); wrong { // it has just ended
			rec, err = s.get(ctx, rec.Name)
		}
		if err != nil {
			return nil, err
		}
	}
	if r := s.find(rec.Name); r != nil {
		if rec.State == stateStopping {
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
	} else if rec.State == stateStopping {
		// Another replica reads the record every second.
		select {
		case <-time.After(2 * tick):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	m, err := message(rec)
	if err != nil {
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
		"the recorder did not join the room; nothing is being recorded, try again").WithRetry(2 * time.Second).Because(cause)
}

func errState(name, what string) error {
	return apierr.New(codes.FailedPrecondition, errorsv1.Reason_REASON_RECORDING_NOT_STARTED, name+": "+what+"; read it to see why", "name", name)
}
