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

	recordingv1 "github.com/openova-io/bp-relay/gen/relay/recording/v1"

	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/change"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/livekit"
	"github.com/openova-io/bp-relay/services/recording/tracks"
	"github.com/openova-io/bp-relay/services/records"
)

// Why a run's recorder must leave the room.
var (
	errStopped = errors.New("stopped")
	errTaken   = errors.New("another replica runs this recording")
	errLate    = errors.New("the recorder did not join the room in time")
)

// run is one recording in this process: its recorder, then its storing.
type run struct {
	s       *Service
	name    string
	doc     document
	capture *capture.Capture
	resumed bool // another process began it
	log     *slog.Logger
	stop    context.CancelCauseFunc // makes the recorder leave

	mu     sync.Mutex
	answer *recordingv1.StartRecordingResponse
	failed error
	// began is since when files are written, zero before the recorder has joined;
	// seen is when it joined last.
	began, seen time.Time

	joined     chan struct{} // closed once ACTIVE
	left       chan struct{} // closed once the recorder is out of the room
	join, away sync.Once
}

func (s *Service) newRun(name string, doc document, c *capture.Capture) *run {
	return &run{
		s: s, name: name, doc: doc, capture: c, began: doc.Start,
		log:    s.log.With("recording", name), // the recorder adds the room
		joined: make(chan struct{}), left: make(chan struct{}),
	}
}

// leave notes that the recorder is no longer in the room.
func (r *run) leave() { r.away.Do(func() { close(r.left) }) }

// start runs fn in the background. base ends with the process; ctx also when the
// recorder must leave. It returns false if the process stops or runs the recording
// already.
func (r *run) start(fn func(base, ctx context.Context)) bool {
	ctx, stop := context.WithCancelCause(context.Background())
	r.stop = stop
	started := r.s.start(r, func(base context.Context) {
		defer stop(nil)
		defer context.AfterFunc(base, func() { stop(base.Err()) })()
		fn(base, ctx)
	})
	if !started {
		stop(nil)
	}
	return started
}

// run records until there is a reason to stop, then stores. A recorder that fails
// for a reason that may pass joins again.
func (r *run) run(base, ctx context.Context) {
	defer r.watch(base)()
	pause := backoff.NewExponentialBackOff()
	pause.MaxInterval = 5 * time.Second
	for since := time.Now(); ; {
		end, err := r.record(ctx)
		if r.joinedSince(since) {
			since = time.Now()
			pause.Reset()
		}
		now := situation{
			mode: r.doc.Mode, began: !r.beginning().IsZero(), ending: base.Err() != nil, cause: context.Cause(ctx), failed: err,
			spool: r.capture.Failure(), end: end, lasting: time.Since(since), patience: r.s.cfg.Patience,
		}
		do, why := judge(now)
		switch {
		case do == wait:
			r.log.WarnContext(ctx, "recorder has failed; it joins again", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(pause.NextBackOff()):
			}
			continue
		case do == leave:
			r.log.WarnContext(ctx, "recorder has left; another process has the recording, or will resume it", "error", now.cause)
			r.leave()
		case now.began:
			r.logUnfinished(base, r.finish(base, why, do))
		default:
			r.logUnfinished(base, r.fail(base, why, now))
		}
		return
	}
}

// joinedSince reports whether the recorder has joined its room after a time.
func (r *run) joinedSince(t time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen.After(t)
}

// beginning is since when files are written; zero if nothing was recorded.
func (r *run) beginning() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.began
}

// logUnfinished logs why the work on a recording ended early.
func (r *run) logUnfinished(base context.Context, err error) {
	if err != nil && base.Err() == nil {
		r.log.ErrorContext(base, "recording not finished; trying again later", "error", err)
	}
}

// record runs the recorder.
func (r *run) record(ctx context.Context) (tracks.End, error) {
	from := r.beginning()
	if from.IsZero() {
		from = time.Now().UTC().Truncate(time.Millisecond)
	}
	writing, end := context.WithCancel(ctx)
	var writes sync.WaitGroup
	defer func() {
		end()
		writes.Wait()
	}()
	rec, err := tracks.New(tracks.Config{
		LiveKit: r.s.cfg.LiveKit, Room: r.doc.Room, Identity: livekit.RecorderIdentity(path.Base(r.name)),
		Start: from, Since: lastAppend(r.capture), Open: r.open, Resumed: r.resumed || !r.beginning().IsZero(), Logger: r.log,
		Joined: func() {
			r.noteJoined(from)
			writes.Go(func() { r.activate(writing, from) }) // the recorder does not wait for the records
		},
		Replaced: r.takenOver,
		Ended:    r.roomEnded,
	})
	if err != nil {
		return tracks.EndFailed, err
	}
	return rec.Run(ctx)
}

// noteJoined notes in this process that the recorder is in the room.
func (r *run) noteJoined(from time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.began, r.seen = from, time.Now()
}

// activate writes into the record that the recorder has joined. It asks records
// that do not answer again until ctx ends.
func (r *run) activate(ctx context.Context, from time.Time) {
	if r.isActive() {
		return // it came back after a lost connection
	}
	rec, err := r.persist(ctx, activate, func(ctx context.Context) (records.Record, error) {
		return r.s.activate(ctx, r.name, r.doc.Actor, from)
	})
	var refused *change.StateError
	switch {
	case errors.As(err, &refused): // it was stopped meanwhile: finish writes what is missing
		return
	case err != nil:
		r.log.ErrorContext(ctx, "recording is running, but its record could not be changed", "error", err)
		return
	}
	m, err := message(rec)
	if err != nil {
		r.log.ErrorContext(ctx, "recording's record cannot be read", "error", err)
		return
	}
	r.mu.Lock()
	r.doc.Start, r.answer = from, &recordingv1.StartRecordingResponse{Recording: m}
	r.mu.Unlock()
	r.join.Do(func() { close(r.joined) })
}

// isActive reports whether the record says that the recorder has joined.
func (r *run) isActive() bool {
	select {
	case <-r.joined:
		return true
	default:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.resumed && !r.doc.Start.IsZero()
}

// finish ends a recording that has recorded: STOPPING, sealed, STORED.
func (r *run) finish(ctx context.Context, why string, do act) error {
	rec, err := r.note(ctx, why, do)
	r.leave()
	if err != nil {
		return err
	}
	if d, err := resource.Body[document](rec); err == nil && d.EndReason != why {
		do = finish // it was stopped, or ended, before
		if endsRoom(d.Mode, true, d.EndReason) {
			do = finishRoom
		}
	}
	if do == finishRoom {
		r.endRoom(ctx)
	}
	return r.store(ctx)
}

// note writes that the recording has ended. The record comes before the room: what
// it says may be that somebody stopped the recording. But a call that must be
// recorded does not go on because the records are away: then the room ends first,
// in LiveKit itself, since the room service needs the records, too.
func (r *run) note(ctx context.Context, why string, do act) (rec records.Record, err error) {
	written, done := context.WithCancel(ctx)
	var writing sync.WaitGroup
	writing.Go(func() {
		defer done()
		rec, err = r.advance(ctx, stop, func(d *document) {
			d.End, d.EndReason = time.Now().UTC(), why
			r.fillStart(d)
		})
	})
	if do == finishRoom {
		select {
		case <-written.Done():
		case <-time.After(noteTimeout):
			r.cutRoom(written)
		}
	}
	writing.Wait()
	return rec, err
}

// fillStart notes when recording began, if the process could not do so then.
func (r *run) fillStart(d *document) {
	if d.Start.IsZero() {
		d.Start = r.beginning()
	}
}

// advance applies a verb in the service's own name, as long as this process owns
// the recording; otherwise it fails with records.ErrFenced. See persist.
func (r *run) advance(ctx context.Context, verb string, edit func(*document)) (records.Record, error) {
	return r.persist(ctx, verb, func(ctx context.Context) (records.Record, error) {
		st := step(verb, change.Relay, edit)
		fenced := false
		st.If = func(_ records.Record, d *document) bool {
			fenced = !d.ownedBy(r.doc.Replica, r.doc.Epoch)
			return !fenced
		}
		rec, err := r.s.advance(ctx, r.name, st)
		if fenced {
			err = errors.Join(err, fmt.Errorf("%w: %s has another owner", records.ErrFenced, r.name))
		}
		return rec, err
	})
}

// persist runs do again until it succeeds, fails for good, or ctx ends; do gets
// a context that does not end with ctx.
func (r *run) persist(ctx context.Context, verb string, do func(ctx context.Context) (records.Record, error)) (records.Record, error) {
	return backoff.Retry(ctx, func() (records.Record, error) {
		rec, err := do(context.WithoutCancel(ctx))
		var refused *change.StateError
		var gone *apierr.Error
		if errors.As(err, &refused) || errors.As(err, &gone) || errors.Is(err, records.ErrFenced) {
			return rec, backoff.Permanent(err)
		}
		return rec, err
	}, backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, wait time.Duration) {
		r.log.WarnContext(ctx, "record not changed", "verb", verb, "retry_in", wait, "error", err)
	}))
}

// store waits until the capture is sealed and stored, however long that takes.
func (r *run) store(ctx context.Context) error {
	m, err := r.capture.Seal(ctx)
	if err != nil {
		return err
	}
	info, err := backoff.Retry(ctx, func() (capture.Info, error) { return r.s.cfg.Captures.Get(ctx, r.doc.Capture) }, backoff.WithMaxElapsedTime(0))
	if err != nil {
		return err
	}
	_, err = r.advance(ctx, store, func(d *document) {
		d.fill(m)
		r.fillStart(d)
		if info.Manifest != nil {
			d.Manifest = info.Manifest.SHA256
		}
	})
	return err
}

// fail ends a recording whose recorder never joined.
func (r *run) fail(ctx context.Context, why string, at situation) error {
	defer r.leave()
	var failed error
	switch {
	case at.end == tracks.EndRoomEnded:
		failed = errRoomGone(r.doc.Room)
	case errors.Is(at.cause, errStopped):
		failed = errState(r.name, "it was stopped before it began")
	default:
		failed = errNoLiveKit(errors.Join(at.failed, at.cause))
	}
	r.mu.Lock()
	r.failed = failed
	r.mu.Unlock()
	r.log.WarnContext(ctx, "recording never began", "error", failed)
	_, err := r.advance(ctx, fail, func(d *document) {
		d.End, d.EndReason = time.Now().UTC(), why
		d.Error = apierr.FromDomain(failed).Message() // the cause names servers and paths: only the log has it
	})
	if err != nil {
		return err
	}
	_, err = r.capture.Seal(ctx) // so that nothing of it stays in the spool
	return err
}
