package recording

import (
	"context"
	"errors"
	"time"

	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/records"
)

// resume goes on with a recording that another process began, or this one left
// unfinished. d is its document as this process owns it.
func (s *Service) resume(rec records.Record, d document) {
	r := s.newRun(rec.Name, d, nil)
	r.resumed = true
	r.start(func(base, ctx context.Context) { r.resume(base, ctx, rec.State) })
}

// resume does the work that remains in the recording's state.
func (r *run) resume(base, ctx context.Context, state string) {
	defer r.leave()
	c, err := r.s.cfg.Captures.Resume(base, r.doc.Capture)
	switch {
	case err == nil:
		r.capture = c
		if state == stateStarting || state == stateActive {
			r.run(base, ctx)
			return
		}
		r.withoutRecorder(base, func() error {
			if state != stateStopping { // FAILED: the capture holds nothing
				_, err := c.Seal(base)
				return err
			}
			if endsRoom(r.doc.Mode, !r.doc.Start.IsZero(), r.doc.EndReason) {
				r.endRoom(base)
			}
			return r.store(base)
		})
	case errors.Is(err, capture.ErrSealed):
		r.withoutRecorder(base, func() error { return r.settle(base, "interrupted") })
	case errors.Is(err, capture.ErrElsewhere):
		// The sweep has waited for its host, which may just have come back.
		if !r.s.ownerless(base, r.doc.Capture) {
			return
		}
		r.log.WarnContext(base, "the recorder is lost; sealing what is stored")
		r.withoutRecorder(base, func() error { return r.settle(base, "recorder_lost") })
	case errors.Is(err, records.ErrNotFound):
		// The process died between the record and the capture.
		r.withoutRecorder(base, func() error {
			_, err := r.advance(base, fail, func(d *document) {
				d.End, d.EndReason, d.Error = time.Now().UTC(), "interrupted", "the process ended before anything was recorded"
			})
			return err
		})
	case errors.Is(err, capture.ErrRecovering), errors.Is(err, capture.ErrActive): // the next sweep asks again
		r.log.InfoContext(base, "recording cannot be resumed yet", "error", err)
	case base.Err() == nil:
		r.log.ErrorContext(base, "recording cannot be resumed", "error", err)
	}
}

// withoutRecorder watches the record while fn runs.
func (r *run) withoutRecorder(base context.Context, fn func() error) {
	r.leave()
	defer r.watch(base)()
	r.logUnfinished(base, fn())
}

// settle seals a capture that no process can go on with, and brings the
// recording to its end.
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
	if rec.State != stateStopping {
		if rec, err = r.advance(ctx, stop, func(d *document) { d.End, d.EndReason = info.End, why }); err != nil {
			return err
		}
	}
	d, err := resource.Body[document](rec)
	if err != nil {
		return err
	}
	if endsRoom(d.Mode, !d.Start.IsZero(), d.EndReason) {
		r.endRoom(ctx)
	}
	_, err = r.advance(ctx, store, func(d *document) {
		for _, s := range info.Streams {
			d.Tracks = append(d.Tracks, track{
				Stream: s.Name, SID: s.Attributes["track_sid"], Identity: s.Attributes["participant_identity"], MediaType: s.MediaType, Size: s.Bytes,
			})
		}
		if info.Manifest != nil {
			d.Manifest = info.Manifest.SHA256
		}
	})
	return err
}
