package room

import (
	"context"
	"time"

	"github.com/openova-io/bp-relay/services/internal/page"
	"github.com/openova-io/bp-relay/services/store"
)

// settle is how much older than the list a room's record must be before its
// absence in LiveKit counts: the room is made there first, but by another
// replica, whose clock and the records' may be a little ahead of ours.
const settle = 5 * time.Second

// Events are kept this long: 72 h are promised, the rest is slack for clocks
// and for how rarely they are pruned.
const (
	retainEvents = 80 * time.Hour
	pruneEvery   = time.Hour
)

// Run compares LiveKit with our records, and forgets old events, until ctx
// ends. It is called once.
func (s *Service) Run(ctx context.Context) error {
	defer close(s.over)
	tick := time.NewTicker(s.cfg.Reconcile)
	defer tick.Stop()
	var pruned time.Time
	for {
		if time.Since(pruned) > pruneEvery {
			n, err := s.cfg.Store.Log().PruneEvents(ctx, time.Now().Add(-retainEvents))
			if err != nil && ctx.Err() == nil {
				s.cfg.Logger.WarnContext(ctx, "old events not pruned", "error", err)
			} else if n > 0 {
				s.cfg.Logger.InfoContext(ctx, "old events pruned", "events", n)
			}
			pruned = time.Now()
		}
		if err := s.reconcile(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Logger.WarnContext(ctx, "rooms not reconciled", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// reconcile ends our open rooms that LiveKit does not know: their node was
// killed, or their room_finished was lost.
func (s *Service) reconcile(ctx context.Context) error {
	asked := time.Now()
	live, err := s.sfu.list(ctx)
	if err != nil {
		return err // LiveKit away: nobody knows, so nothing ends
	}
	there := make(map[string]bool, len(live))
	for _, r := range live {
		there[r.GetName()] = true
	}
	for after := ""; ; {
		var recs []store.Record
		err := s.cfg.Store.View(ctx, func(tx store.Tx) (err error) {
			recs, err = tx.List(ctx, store.Query{Kind: store.Rooms, States: []string{stateOpen}, After: after, Limit: page.MaxSize})
			return err
		})
		if err != nil {
			return err
		}
		for _, rec := range recs {
			if there[rec.Name] || asked.Sub(rec.UpdateTime) < settle {
				continue
			}
			if err := s.lost(ctx, rec.Name, asked); err != nil {
				return err
			}
		}
		if len(recs) < page.MaxSize {
			return nil
		}
		after = recs[len(recs)-1].Name
	}
}

// lost ends a room that LiveKit did not know when it was asked, unless it was
// opened again since: a list with thousands of lost rooms takes a while.
func (s *Service) lost(ctx context.Context, name string, asked time.Time) error {
	s.cfg.Logger.InfoContext(ctx, "room is gone from LiveKit", "room", name)
	return s.cfg.Store.Update(ctx, func(tx store.Tx) error {
		rec, err := tx.Get(ctx, store.Rooms, name)
		if err != nil || rec.State != stateOpen || asked.Sub(rec.UpdateTime) < settle {
			return err
		}
		_, err = end(ctx, tx, rec, "relay", "gone_from_livekit")
		return err
	})
}
