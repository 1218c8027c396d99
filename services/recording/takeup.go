package recording

import (
	"context"
	"errors"
	"time"

	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/internal/act"
	"github.com/openova-io/bp-relay/services/store"
)

// takeUp goes on with a recording that another process began. lease is nil
// where the spool was found here: the dead process's lease runs out by itself.
func (s *Service) takeUp(rec store.Record, lease bus.Lease) {
	d, err := parse(rec)
	if err != nil {
		s.log.Error("recording cannot be taken up", "recording", rec.Name, "error", err)
		return
	}
	r := s.newRun(rec.Name, d, nil, lease)
	r.resumed = true
	ctx, stop := context.WithCancelCause(s.base)
	r.stop = stop
	started := s.spawn(rec.Name, r, func(base context.Context) {
		defer stop(nil)
		r.goOn(base, ctx, state(rec.State))
		r.release()
	})
	if !started {
		stop(nil)
		r.release()
	}
}

// goOn does what the recording's state asks for.
func (r *run) goOn(base, ctx context.Context, st state) {
	c, err := r.s.cfg.Captures.Resume(base, r.doc.Capture)
	switch {
	case err == nil:
		r.s.seen(r.name, false)
		r.capture = c
		if st == stateStarting || st == stateActive {
			r.run(base, ctx)
			return
		}
		r.holding(base, func() error {
			if st != stateStopping { // its recording has failed: nothing to record there
				_, err := c.Seal(base)
				return err
			}
			r.failClosed(base, r.doc.EndReason)
			return r.seal(base)
		})
	case errors.Is(err, capture.ErrSealed):
		r.holding(base, func() error { return r.settle(base, "interrupted") })
	case errors.Is(err, capture.ErrElsewhere):
		// Its host may come back and go on.
		if r.s.seen(r.name, true) >= r.s.cfg.Abandon {
			r.log.Warn("recording's recorder is lost; sealing what is stored")
			r.holding(base, func() error { return r.settle(base, "recorder_lost") })
		}
	case errors.Is(err, store.ErrNotFound):
		// The process died between the record and the capture.
		r.holding(base, func() error {
			_, err := r.persist(base, act.Relay, stateFailed, func(d *document) {
				d.End, d.EndReason, d.Error = time.Now().UTC(), "interrupted", "the process ended before anything was recorded"
			}, nil)
			return err
		})
	case base.Err() == nil:
		r.log.Error("recording cannot be taken up", "error", err)
	}
	r.leave()
}

// holding keeps the lease while fn runs, which needs no recorder.
func (r *run) holding(base context.Context, fn func() error) {
	r.leave()
	held, done := context.WithCancel(base)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		r.watch(held)
	}()
	if err := fn(); err != nil && base.Err() == nil {
		r.log.Error("recording not finished; trying again later", "error", err)
	}
	done()
	<-watched
}

// settle seals a capture that nobody can go on with, and brings the recording
// to its end.
func (r *run) settle(ctx context.Context, why string) error {
	if err := r.s.cfg.Captures.SealAbandoned(ctx, r.doc.Capture, why); err != nil {
		return err
	}
	info, err := r.s.cfg.Captures.Get(ctx, r.doc.Capture)
	if err != nil {
		return err
	}
	rec, err := r.s.get(ctx, r.name)
	if err != nil {
		return err
	}
	if state(rec.State) != stateStopping {
		if rec, err = r.persist(ctx, act.Relay, stateStopping, func(d *document) { d.End, d.EndReason = info.End, why }, nil); err != nil {
			return err
		}
	}
	d, err := parse(rec)
	if err != nil {
		return err
	}
	r.failClosed(ctx, d.EndReason)
	_, err = r.persist(ctx, act.Relay, stateStored, func(d *document) {
		for _, s := range info.Streams {
			d.Tracks = append(d.Tracks, track{
				Stream: s.Name, SID: s.Attributes["track_sid"], Identity: s.Attributes["participant_identity"], MediaType: s.MediaType, Size: s.Bytes,
			})
		}
		if info.Manifest != nil {
			d.Manifest = info.Manifest.SHA256
		}
	}, nil)
	r.s.seen(r.name, false)
	return err
}
