package connection

import (
	"context"
	"errors"
	"time"

	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/internal/change"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/records"
)

// sweep looks at every session that has not ended. It logs its errors; the next
// sweep tries again.
func (s *Service) sweep(ctx context.Context) {
	q := records.Query{Kind: records.Sessions, States: []string{pending, active, ending}, Limit: 500}
	for rec, err := range resource.Each(ctx, s.cfg.Records, q) {
		if err != nil {
			if ctx.Err() == nil {
				s.log.WarnContext(ctx, "list sessions", "error", err)
			}
			return
		}
		d, err := resource.Body[session](rec)
		if err != nil {
			s.log.ErrorContext(ctx, "read a session's record", "session", rec.Name, "error", err)
			continue
		}
		s.adopt(ctx, rec, d)
	}
}

// abandoned reports whether no process runs the session any more. Its own host
// knows at once, by the spool; others wait for a sign of life, since whoever sees
// that the records are away does not know that the session is.
func (s *Service) abandoned(name string, d session) bool {
	switch {
	case s.tasks.Has(name):
		return false
	case d.Replica == s.replica.ID(), !s.cfg.Bus.Shared():
		return true // no other process could
	case d.Capture != "" && s.cfg.Captures.Holds(d.Capture):
		return true // that process had the spool that this one has now
	default:
		return s.replica.Unseen(d.Replica) >= s.cfg.Patience
	}
}

// sealed reports whether only the end of a session is missing whose process is
// not seen: its recording is sealed.
func (s *Service) sealed(ctx context.Context, name string, d session) bool {
	if d.Capture == "" || s.tasks.Has(name) || s.replica.Unseen(d.Replica) < spoolless {
		return false
	}
	info, err := s.cfg.Captures.Get(ctx, d.Capture)
	return err == nil && info.State == capture.StateSealed
}

// adopt moves a session on if no process runs it.
func (s *Service) adopt(ctx context.Context, rec records.Record, d session) {
	var err error
	switch rec.State {
	case pending:
		if time.Now().After(d.TicketExpires.Add(2*time.Second)) && !s.tasks.Has(rec.Name) {
			err = s.moveOn(ctx, rec.Name, closed(lapse, reasonTicketExpired, map[string]any{}))
		}
	case active:
		if s.abandoned(rec.Name, d) {
			s.log.WarnContext(ctx, "a session's process has died", "session", rec.Name, "replica", d.Replica)
			err = s.interrupt(ctx, rec.Name, d)
		}
	case ending:
		if s.abandoned(rec.Name, d) || s.sealed(ctx, rec.Name, d) {
			s.sealAbandoned(ctx, rec.Name, d)
		}
	}
	if err != nil && !errors.Is(err, records.ErrConflict) && ctx.Err() == nil {
		s.log.WarnContext(ctx, "move an abandoned session on", "session", rec.Name, "error", err)
	}
}

// interrupt ends a session whose process has died.
func (s *Service) interrupt(ctx context.Context, name string, d session) error {
	verb := interrupt
	if d.Capture == "" {
		verb = interruptUnrecorded
	}
	if err := s.moveOn(ctx, name, closed(verb, reasonInterrupted, map[string]any{})); err != nil {
		return err
	}
	if d.Capture != "" {
		d.noteEnd(reasonInterrupted)
		s.sealAbandoned(ctx, name, d)
	}
	return nil
}

// sealAbandoned seals what a process that died had recorded, in a task of its
// own, and then ends the session.
func (s *Service) sealAbandoned(ctx context.Context, name string, d session) {
	capt := d.Capture
	if capt == "" {
		s.settle(ctx, name, "")
		return
	}
	s.tasks.GoOnce(name, func(ctx context.Context) {
		err := s.cfg.Captures.SealAbandoned(ctx, capt, "session "+reasonInterrupted)
		switch {
		case errors.Is(err, records.ErrNotFound):
			s.settle(ctx, name, "") // its process died before the recording was open
		case errors.Is(err, capture.ErrActive), errors.Is(err, capture.ErrTaken), errors.Is(err, capture.ErrRecovering):
			// another process, or a later attempt of this one, seals it: the next sweep
			// looks again
		case err != nil:
			if ctx.Err() == nil {
				s.log.WarnContext(ctx, "seal an abandoned recording", "session", name, "capture", capt, "error", err)
			}
		default:
			s.settle(ctx, name, capt)
		}
	})
}

// settle ends a session whose recording is sealed, or that has none (capt "").
func (s *Service) settle(ctx context.Context, name, capt string) {
	sum := ""
	if capt != "" {
		info, err := s.cfg.Captures.Get(ctx, capt)
		if err != nil || info.Manifest == nil {
			s.log.WarnContext(ctx, "read a sealed recording", "session", name, "capture", capt, "error", err)
			return
		}
		sum = info.Manifest.SHA256
	}
	err := s.moveOn(ctx, name, change.Step[session]{Verb: seal, Edit: func(d *session) any {
		d.noteEnd(reasonInterrupted)
		d.Manifest = sum
		return map[string]any{"capture": d.Capture, "manifest_sha256": sum}
	}})
	if err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "end a session", "session", name, "error", err)
	}
}
