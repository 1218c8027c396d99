package room

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/openova-io/bp-relay/services/internal/change"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/livekit"
	"github.com/openova-io/bp-relay/services/records"
)

const (
	// batch is how many records are read at once.
	batch = 1000
	// asks is how many rooms LiveKit is asked about at once.
	asks = 32
)

// What the reconciler has done, for the metric.
const (
	didEnd    = "ended"
	didReopen = "reopened"
	didDelete = "deleted_again"
	didHold   = "held" // not ended, because too many would have ended at once
)

func newReconciled() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "relay_room_reconciled_total",
		Help: "Rooms whose record and LiveKit differed, by what the reconciler did.",
	}, []string{"did"})
}

// Metrics are the service's metrics, to be registered once.
func (s *Service) Metrics() []prometheus.Collector { return []prometheus.Collector{s.reconciled} }

// Run compares LiveKit with the records until ctx ends. Call it once.
func (s *Service) Run(ctx context.Context) error {
	r := &reconciler{Service: s, absent: map[string]sighting{}, present: map[string]sighting{}}
	tick := time.NewTicker(s.cfg.Reconcile)
	defer tick.Stop()
	for {
		if err := r.pass(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Logger.WarnContext(ctx, "rooms not reconciled", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// reconciler compares LiveKit's list with the records, in both directions. One
// answer of LiveKit is no verdict: its list is in its Redis, which may have lost
// it, and a room may be made while it is read. So a difference counts only if
// two lists show it, Reconcile apart, while the record stays as it is, and if
// LiveKit then says the same of that very room.
type reconciler struct {
	*Service
	absent  map[string]sighting // open records whose room LiveKit does not list
	present map[string]sighting // ended records whose room LiveKit lists
	ended   []time.Time         // when rooms were ended, in the last window
}

// sighting is a difference: since when, by this process's own clock, and of
// which version of the record.
type sighting struct {
	version int64
	since   time.Time
}

// again remembers the difference in next, and reports whether it counts.
func again(last, next map[string]sighting, rec records.Record, now time.Time, apart time.Duration) bool {
	s, known := last[rec.Name]
	if !known || s.version != rec.Version {
		s = sighting{rec.Version, now}
	}
	next[rec.Name] = s
	return now.Sub(s.since) >= apart
}

// pass compares once. It returns an error only if it could not compare: a room
// that cannot be changed is logged, and does not stand in front of the others.
func (r *reconciler) pass(ctx context.Context) error {
	list, err := r.cfg.LiveKit.ListRooms(ctx)
	if err != nil {
		return err // LiveKit does not answer: nothing is known, so nothing changes
	}
	now := time.Now()
	live := make(map[string]livekit.Room, len(list))
	for _, room := range list {
		live[room.Name] = room
	}
	open := 0
	absent := map[string]sighting{}
	var lost []records.Record
	for rec, err := range resource.Each(ctx, r.cfg.Records, records.Query{Kind: records.Rooms, States: []string{stateOpen}, Limit: batch}) {
		if err != nil {
			return err
		}
		open++
		if _, ok := live[rec.Name]; ok {
			delete(live, rec.Name)
		} else if again(r.absent, absent, rec, now, r.cfg.Reconcile) {
			lost = append(lost, rec)
		}
	}
	r.absent = absent
	r.lose(ctx, r.confirm(ctx, lost), open)
	r.find(ctx, live, now)
	return nil
}

// confirm asks LiveKit about each of the rooms and returns those that it does
// not have.
func (r *reconciler) confirm(ctx context.Context, lost []records.Record) (confirmed []records.Record) {
	var mu sync.Mutex // guards confirmed
	var g errgroup.Group
	g.SetLimit(asks)
	for _, rec := range lost {
		g.Go(func() error {
			has, err := r.has(ctx, rec.Name)
			if err != nil {
				r.warn(ctx, "cannot ask LiveKit about a room", rec.Name, err)
				return nil
			}
			if has {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			confirmed = append(confirmed, rec)
			return nil
		})
	}
	_ = g.Wait() // no function returns an error
	return confirmed
}

// has asks for that very room, in three ways. The node that runs it is the one
// source that does not depend on LiveKit's Redis having kept everything.
func (r *reconciler) has(ctx context.Context, name string) (bool, error) {
	lives, err := r.cfg.LiveKit.Lives(ctx, name)
	if lives {
		r.cfg.Logger.WarnContext(ctx, "LiveKit runs a room that it does not list; its Redis may have lost data", "room", name)
	}
	if lives || err != nil {
		return lives, err
	}
	in, err := r.cfg.LiveKit.ListParticipants(ctx, name)
	if len(in) > 0 || err != nil {
		return true, err
	}
	listed, err := r.cfg.LiveKit.ListRooms(ctx, name)
	return len(listed) > 0, err
}

// find looks at the rooms that LiveKit lists and that have no open record.
// Rooms without any record are left alone: they are not ours, or are being
// created.
func (r *reconciler) find(ctx context.Context, live map[string]livekit.Room, now time.Time) {
	present := map[string]sighting{}
	defer func() { r.present = present }()
	for name, room := range live {
		if _, _, err := rooms().Parse(name); err != nil {
			continue
		}
		rec, err := rooms().View(ctx, r.cfg.Records, name)
		if err != nil || rec.State != stateEnded {
			if err != nil && !isNotFound(err) {
				r.warn(ctx, "cannot read the record of a room", name, err)
			}
			continue
		}
		if !again(r.present, present, rec, now, r.cfg.Reconcile) {
			continue
		}
		if err := r.found(ctx, rec, room); err != nil {
			r.warn(ctx, "cannot correct a room that LiveKit runs although its record has ended", name, err)
		}
	}
}

// found handles a room that LiveKit runs although its record has ended. One
// that somebody has deleted is deleted again. Any other one in which there are
// people is opened again; LiveKit ends an empty one by itself.
func (r *reconciler) found(ctx context.Context, rec records.Record, room livekit.Room) error {
	d, err := resource.Body[document](rec)
	if err != nil {
		return err
	}
	if d.EndReason == deleted {
		r.cfg.Logger.WarnContext(ctx, "LiveKit still runs a deleted room; deleting it again", "room", rec.Name)
		unlisted, err := r.endLive(ctx, rec.Name)
		if err == nil && !unlisted {
			r.reconciled.WithLabelValues(didDelete).Inc()
		}
		return err
	}
	if room.Participants == 0 {
		return nil
	}
	if lives, err := r.cfg.LiveKit.Lives(ctx, rec.Name); err != nil || !lives {
		return err // a dead node's rooms stay in LiveKit's list
	}
	step := reopening()
	step.If = func(now records.Record, _ *document) bool { return now.Version == rec.Version }
	now, err := change.Run(ctx, r.cfg.Records, rooms(), states(), rec.Name, step)
	if err != nil || now.Version == rec.Version {
		return err
	}
	r.cfg.Logger.WarnContext(ctx, "a room lives although its record had ended; it is open again", "room", rec.Name, "reason", d.EndReason)
	r.reconciled.WithLabelValues(didReopen).Inc()
	return nil
}

func (r *reconciler) warn(ctx context.Context, what, room string, err error) {
	if ctx.Err() == nil {
		r.cfg.Logger.WarnContext(ctx, what, "room", room, "error", err) //nolint:sloglint // what is one of the constants above
	}
}
