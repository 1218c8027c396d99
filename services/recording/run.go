package recording

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"
	recordingv1 "github.com/openova-io/bp-relay/gen/relay/recording/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/internal/act"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/idem"
	"github.com/openova-io/bp-relay/services/recording/tracks"
	"github.com/openova-io/bp-relay/services/store"
)

// Why a run's recorder has to leave the room.
var (
	errStopped = errors.New("stopped")
	errTaken   = errors.New("another replica runs this recording")
	errLate    = errors.New("the recorder did not get into the room in time")
)

// run is one recording in this process: its recorder, then its sealing.
type run struct {
	s       *Service
	name    string
	doc     document
	capture *capture.Capture
	resumed bool
	log     *slog.Logger
	stop    context.CancelCauseFunc // makes the recorder leave

	mu     sync.Mutex
	lease  bus.Lease // nil until it is free
	answer *recordingv1.StartRecordingResponse
	failed error

	joined     chan struct{} // closed once ACTIVE
	left       chan struct{} // closed when the recorder is out of the room
	join, away sync.Once
}

func (s *Service) newRun(name string, doc document, c *capture.Capture, lease bus.Lease) *run {
	return &run{
		s: s, name: name, doc: doc, capture: c, lease: lease,
		log:    s.log.With("recording", name), // the recorder adds the room
		joined: make(chan struct{}), left: make(chan struct{}),
	}
}

// leave says that the recorder is not in the room any more.
func (r *run) leave() { r.away.Do(func() { close(r.left) }) }

// start has the recorder run in the background.
func (r *run) start() bool {
	ctx, stop := context.WithCancelCause(r.s.base)
	r.stop = stop
	return r.s.spawn(r.name, r, func(base context.Context) {
		defer stop(nil)
		r.run(base, ctx)
	})
}

// run records until there is a reason to stop, then seals. base ends with the
// process, ctx when the recorder has to leave.
func (r *run) run(base, ctx context.Context) {
	held, done := context.WithCancel(base)
	var watch sync.WaitGroup
	watch.Go(func() { r.watch(held) })
	defer watch.Wait()
	defer done()

	end, err := r.record(ctx)
	if errors.Is(err, capture.ErrClosed) {
		// The capture's manager has stopped: the process is about to end.
		select {
		case <-base.Done():
		case <-time.After(3 * time.Second):
		}
	}
	switch cause := context.Cause(ctx); {
	case end == tracks.EndReplaced || errors.Is(cause, errTaken):
		r.log.Warn("another replica has taken over the recording")
		r.leave()
		return
	case base.Err() != nil && !errors.Is(cause, errStopped):
		r.log.Info("recorder leaves; the next process goes on")
		r.leave()
		r.release()
		return
	case r.isJoined():
		err = r.finish(base, cause, end, err)
	default:
		err = r.fail(base, cause, end, err)
	}
	if err != nil && base.Err() == nil {
		r.log.Error("recording not finished; trying again later", "error", err)
	}
	r.release()
}

// record runs the recorder.
func (r *run) record(ctx context.Context) (tracks.End, error) {
	start := r.doc.Start
	if start.IsZero() {
		start = time.Now().UTC().Truncate(time.Millisecond)
	}
	rec, err := tracks.New(tracks.Config{
		URL: r.s.cfg.LiveKit.URL, Key: r.s.cfg.LiveKit.Key, Secret: r.s.cfg.LiveKit.Secret,
		Room: r.doc.Room, Identity: "recorder-" + path.Base(r.name),
		Start: start, Open: r.open, Resumed: r.resumed, Logger: r.log,
		Joined:   func() { r.active(ctx, start) },
		Replaced: func(ctx context.Context) bool { return !r.renew(ctx) },
		Ended:    r.roomEnded,
	})
	if err != nil {
		return tracks.EndFailed, err
	}
	return rec.Run(ctx)
}

// active notes that the recorder is in the room, and remembers the answer to
// the call that asked for it. Records that do not answer are asked again for
// as long as the recorder stays: it is recording meanwhile.
func (r *run) active(ctx context.Context, start time.Time) {
	if r.isJoined() {
		return // it came back after a lost connection
	}
	rec, err := r.persist(ctx, r.doc.Actor, stateActive, func(d *document) { d.Start = start },
		func(tx store.Tx, rec store.Record, d document) error {
			ctx := context.WithoutCancel(ctx)
			m, err := message(rec)
			if err != nil || d.Request == nil {
				return err
			}
			answer := &recordingv1.StartRecordingResponse{Recording: m}
			if known, err := idem.Replay(ctx, tx, *d.Request, new(recordingv1.StartRecordingResponse)); known || err != nil {
				return err
			}
			return idem.Remember(ctx, tx, *d.Request, answer)
		})
	var wrong *stateError
	switch {
	case errors.As(err, &wrong): // stopped before it began
		return
	case err != nil:
		r.log.Error("recording is running, but its record could not be changed", "error", err)
		return
	}
	m, err := message(rec)
	if err != nil {
		r.log.Error("recording's record cannot be read", "error", err)
		return
	}
	r.mu.Lock()
	r.doc.Start, r.answer = start, &recordingv1.StartRecordingResponse{Recording: m}
	r.mu.Unlock()
	r.join.Do(func() { close(r.joined) })
}

func (r *run) isJoined() bool {
	select {
	case <-r.joined:
		return true
	default:
		return r.resumed && !r.doc.Start.IsZero()
	}
}

// finish ends a recording that has recorded: STOPPING, sealed, STORED.
func (r *run) finish(ctx context.Context, cause error, end tracks.End, failure error) error {
	why := endReason(cause, end, failure, r.capture.Failure())
	rec, err := r.persist(ctx, act.Relay, stateStopping, func(d *document) { d.End, d.EndReason = time.Now().UTC(), why }, nil)
	r.leave()
	if err != nil {
		return err
	}
	if d, err := parse(rec); err == nil {
		why = d.EndReason // somebody may have stopped it before
	}
	r.failClosed(ctx, why)
	return r.seal(ctx)
}

// persist changes the record, trying again until it is done, cannot be done,
// or ctx ends. See change.
func (r *run) persist(ctx context.Context, actor string, to state, edit func(*document), then func(tx store.Tx, rec store.Record, d document) error) (store.Record, error) {
	return backoff.Retry(ctx, func() (store.Record, error) {
		rec, err := r.s.change(context.WithoutCancel(ctx), r.name, actor, to, edit, then)
		var wrong *stateError
		var gone *apierr.Error
		if errors.As(err, &wrong) || errors.As(err, &gone) {
			return rec, backoff.Permanent(err)
		}
		return rec, err
	}, backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, wait time.Duration) {
		r.log.Warn("record not changed", "state", to, "again_in", wait, "error", err)
	}))
}

// endReason is the word for it in the API.
func endReason(cause error, end tracks.End, failure, spool error) string {
	switch {
	case errors.Is(spool, capture.ErrSpoolFull), errors.Is(failure, capture.ErrSpoolFull):
		return "spool_full"
	case errors.Is(spool, capture.ErrDisk), errors.Is(failure, capture.ErrDisk):
		return "spool_failed"
	case errors.Is(cause, errStopped):
		return "stopped"
	case failure != nil:
		return "failed"
	}
	return string(end)
}

// service makes the calls under ctx ours, for the recording's organisation.
func (r *run) service(ctx context.Context) context.Context {
	return auth.With(ctx, auth.Principal{Subject: "service:recording", Org: act.Org(r.name), Service: true})
}

// roomEnded says whether the room that is recorded has ended, also where
// another one has its name now. A room service that does not answer ends no
// recording.
func (r *run) roomEnded(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(r.service(ctx), askTimeout)
	defer cancel()
	answer, err := r.s.cfg.Rooms.GetRoom(ctx, &roomv1.GetRoomRequest{Name: r.doc.Room})
	if err != nil {
		return apierr.ReasonOf(err) == apierr.ReasonName(errorsv1.Reason_REASON_ROOM_NOT_FOUND)
	}
	room := answer.GetRoom()
	return room.GetState() == roomv1.Room_STATE_ENDED || (r.doc.RoomUID != "" && room.GetUid() != r.doc.RoomUID)
}

// failClosed ends the room of a required recording that cannot go on: a call
// that must be recorded does not go on unrecorded. Doing it again, after a
// process that died here, is right: it ends this room only.
func (r *run) failClosed(ctx context.Context, why string) {
	if r.doc.Mode != capture.Required || why == "stopped" || why == string(tracks.EndRoomEnded) || r.roomEnded(ctx) {
		return
	}
	ctx, cancel := context.WithTimeout(r.service(ctx), endRoomTimeout)
	defer cancel()
	_, err := backoff.Retry(ctx, func() (*roomv1.DeleteRoomResponse, error) {
		answer, err := r.s.cfg.Rooms.DeleteRoom(ctx, &roomv1.DeleteRoomRequest{Name: r.doc.Room})
		if apierr.ReasonOf(err) == apierr.ReasonName(errorsv1.Reason_REASON_ROOM_NOT_FOUND) {
			return answer, nil
		}
		return answer, err
	}, backoff.WithMaxElapsedTime(0))
	if err != nil {
		r.log.Error("a required recording has failed, and its room could not be ended", "error", err)
		return
	}
	r.log.Warn("room ended because its required recording cannot go on")
}

// seal waits until everything is stored, however long that takes.
func (r *run) seal(ctx context.Context) error {
	m, err := r.capture.Seal(ctx)
	if err != nil {
		return err
	}
	info, err := backoff.Retry(ctx, func() (capture.Info, error) { return r.s.cfg.Captures.Get(ctx, r.doc.Capture) }, backoff.WithMaxElapsedTime(0))
	if err != nil {
		return err
	}
	_, err = r.persist(ctx, act.Relay, stateStored, func(d *document) {
		d.sealed(m)
		if info.Manifest != nil {
			d.Manifest = info.Manifest.SHA256
		}
	}, nil)
	return err
}

// fail ends a recording that never got into its room.
func (r *run) fail(ctx context.Context, cause error, end tracks.End, failure error) error {
	defer r.leave()
	what := endReason(cause, end, failure, r.capture.Failure())
	r.mu.Lock()
	switch {
	case end == tracks.EndRoomEnded:
		r.failed = errRoomGone(r.doc.Room)
	case errors.Is(cause, errStopped):
		r.failed = errState(r.name, "it was stopped before it began")
	default:
		r.failed = errNoLiveKit(errors.Join(failure, cause))
	}
	text := apierr.FromDomain(r.failed).Message() // the cause is the log's: it names servers and paths of ours
	r.log.Warn("recording never began", "error", r.failed)
	r.mu.Unlock()
	_, err := r.persist(ctx, act.Relay, stateFailed, func(d *document) {
		d.End, d.EndReason, d.Error = time.Now().UTC(), what, text
	}, nil)
	if err != nil {
		return err
	}
	_, err = r.capture.Seal(ctx) // so that nothing of it stays in the spool
	return err
}

// watch renews the lease, and has the recorder leave when the recording is
// someone else's, was stopped elsewhere, or can record no more.
func (r *run) watch(ctx context.Context) {
	t := time.NewTicker(tick)
	defer t.Stop()
	var full <-chan struct{}
	if r.capture != nil {
		full = r.capture.Err()
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-full:
			full = nil
			r.stop(fmt.Errorf("the capture has failed: %w", r.capture.Failure()))
			continue
		case <-t.C:
		}
		if !r.renew(ctx) {
			r.stop(errTaken)
			continue
		}
		if r.stoppedElsewhere(ctx) {
			r.stop(errStopped)
		}
	}
}

// stoppedElsewhere reads the record. Records that hang do not keep the lease
// from being renewed.
func (r *run) stoppedElsewhere(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, leaseTTL/3)
	defer cancel()
	rec, err := r.s.get(ctx, r.name)
	return err == nil && state(rec.State) == stateStopping
}

// renew keeps the lease, or takes it when it is free. It is false only when
// another replica has it: a bus that does not answer ends no recording.
func (r *run) renew(ctx context.Context) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lease != nil {
		err := r.lease.Renew(ctx, leaseTTL)
		if err == nil {
			return true
		}
		if !errors.Is(err, bus.ErrLost) {
			return true
		}
		r.lease = nil
	} else if r.resumed {
		// The dead process's lease runs out by itself.
		if lease, err := r.s.cfg.Bus.Acquire(ctx, leaseName(r.name), leaseTTL); err == nil {
			r.lease = lease
		}
		return true
	}
	lease, err := r.s.cfg.Bus.Acquire(ctx, leaseName(r.name), leaseTTL)
	if err == nil {
		r.lease = lease
	}
	return !errors.Is(err, bus.ErrHeld)
}

func (r *run) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lease == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := r.lease.Release(ctx); err != nil {
		r.log.Debug("lease not released", "error", err)
	}
	r.lease = nil
}
