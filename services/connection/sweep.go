package connection

import (
	"context"
	"errors"
	"time"

	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/internal/act"
	"github.com/openova-io/bp-relay/services/store"
)

// presenceSet is where the processes that carry sessions say that they live.
const presenceSet = "connection/replicas"

// missedSweeps is how often a replica must be missing before its sessions are
// given up: a bus that has just lost its memory shows nobody at first.
const missedSweeps = 2

// sweep looks at every session that is not over. Its errors are logged: the
// next sweep tries again.
func (s *Service) sweep(ctx context.Context) {
	if err := s.cfg.Bus.SetPresence(ctx, presenceSet, s.cfg.Replica, nil, presenceTTL); err != nil {
		s.log.Warn("say that this replica is here", "error", err)
		return // who cannot be seen does not judge others
	}
	here, err := s.cfg.Bus.Presence(ctx, presenceSet)
	if err != nil {
		s.log.Warn("see which replicas are here", "error", err)
		return
	}
	seen := map[string]bool{}
	for after := ""; ; {
		var recs []store.Record
		err := s.cfg.Store.View(ctx, func(tx store.Tx) (err error) {
			recs, err = tx.List(ctx, store.Query{Kind: store.Sessions, States: []string{pending, active, ending}, After: after, Limit: 500})
			return err
		})
		if err != nil {
			if ctx.Err() == nil {
				s.log.Warn("list sessions", "error", err)
			}
			return
		}
		for _, rec := range recs {
			after = rec.Name
			d, err := parseSession(rec)
			if err != nil {
				s.log.Error("sweep", "error", err)
				continue
			}
			if d.Replica != "" && !seen[d.Replica] {
				seen[d.Replica] = true
				s.count(d.Replica, here)
			}
			s.tidy(ctx, rec, d)
		}
		if len(recs) < 500 {
			return
		}
	}
}

// count notes in how many sweeps in a row a replica was missing.
func (s *Service) count(replica string, here map[string][]byte) {
	if _, is := here[replica]; is {
		delete(s.absent, replica)
		return
	}
	s.absent[replica]++
}

// abandoned says whether nobody carries the session any more.
func (s *Service) abandoned(name string, d session) bool {
	switch {
	case s.looksAfter(name):
		return false
	case d.Replica == s.cfg.Replica, !s.cfg.Bus.Shared():
		return true // nobody but us could
	default:
		return s.absent[d.Replica] >= missedSweeps
	}
}

// tidy moves one session on where nobody else does.
func (s *Service) tidy(ctx context.Context, rec store.Record, d session) {
	var err error
	switch rec.State {
	case pending:
		if time.Now().After(d.TicketExpires.Add(2*time.Second)) && !s.looksAfter(rec.Name) {
			_, err = s.change(ctx, rec.Name, act.Relay, still(pending, down(endTicketExpired, false, map[string]any{})))
		}
	case active:
		if s.abandoned(rec.Name, d) {
			s.log.Warn("session of a process that died", "session", rec.Name, "replica", d.Replica)
			if _, err = s.change(ctx, rec.Name, act.Relay, still(active, down(endInterrupted, true, map[string]any{}))); err == nil && d.Capture != "" {
				d.end(endInterrupted)
				s.abandon(ctx, rec.Name, d)
			}
		}
	case ending:
		if s.abandoned(rec.Name, d) {
			s.abandon(ctx, rec.Name, d)
		}
	}
	if err != nil && !errors.Is(err, store.ErrConflict) && ctx.Err() == nil {
		s.log.Warn("move a session on", "session", rec.Name, "error", err)
	}
}

// still applies fn only where the state is the one that was seen.
func still(want string, fn changeFunc) changeFunc {
	return func(state string, d *session) (string, string, map[string]any, error) {
		if state != want {
			return state, "", nil, nil
		}
		return fn(state, d)
	}
}

// abandon seals what an earlier process recorded, beside the sweep, and then
// ends the session. The host that has the spool does it at once; the others
// leave it the time to come back, since what they seal is without what is in
// the spool, for good.
func (s *Service) abandon(ctx context.Context, name string, d session) {
	capt := d.Capture
	if capt == "" {
		s.settle(ctx, name, "")
		return
	}
	if s.cfg.Bus.Shared() && !s.cfg.Captures.Holds(capt) && time.Since(d.Ended) < spoolGrace {
		return // the next sweep looks again
	}
	life, done, ok := s.begin(name)
	if !ok {
		return
	}
	go func() { // stop waits for it
		defer done()
		err := s.cfg.Captures.SealAbandoned(life, capt, "session "+endInterrupted)
		switch {
		case errors.Is(err, store.ErrNotFound):
			s.settle(life, name, "") // it died before the recording was open
		case errors.Is(err, capture.ErrActive):
			// somebody is at it: the next sweep looks again
		case err != nil:
			if life.Err() == nil {
				s.log.Warn("seal an abandoned recording", "session", name, "capture", capt, "error", err)
			}
		default:
			s.settle(life, name, capt)
		}
	}()
}

// settle ends a session whose recording is sealed, or that has none.
func (s *Service) settle(ctx context.Context, name, capt string) {
	manifest := ""
	if capt != "" {
		info, err := s.cfg.Captures.Get(ctx, capt)
		if err != nil || info.Manifest == nil {
			s.log.Warn("read a sealed recording", "session", name, "capture", capt, "error", err)
			return
		}
		manifest = info.Manifest.SHA256
	}
	if _, err := s.change(ctx, name, act.Relay, sealed(manifest)); err != nil && ctx.Err() == nil {
		s.log.Warn("end a session", "session", name, "error", err)
	}
}
