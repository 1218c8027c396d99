package event_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	eventv1 "github.com/openova-io/bp-relay/gen/relay/event/v1"
	optionsv1 "github.com/openova-io/bp-relay/gen/relay/options/v1"

	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/bus/inproc"
	"github.com/openova-io/bp-relay/services/event"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/sqlite"
)

// countedRecords count the transactions that read events, and may be away.
type countedRecords struct {
	records.DB
	last, events atomic.Int64
	away         atomic.Bool
}

type countedLog struct {
	records.Log
	c *countedRecords
}

func (c *countedRecords) Log() records.Log { return countedLog{c.DB.Log(), c} }

func (l countedLog) LastEvents(ctx context.Context, orgs []string) (map[string]int64, error) {
	l.c.last.Add(1)
	if l.c.away.Load() {
		return nil, records.ErrUnavailable
	}
	return l.Log.LastEvents(ctx, orgs)
}

func (l countedLog) Events(ctx context.Context, org string, after int64, limit int) ([]records.Event, error) {
	l.c.events.Add(1)
	if l.c.away.Load() {
		return nil, records.ErrUnavailable
	}
	return l.Log.Events(ctx, org, after, limit)
}

// hall is a service with records that tests write events into.
type hall struct {
	t testing.TB
	*event.Service
	db  *countedRecords
	bus bus.Bus
}

func newHall(t testing.TB, db records.DB) *hall {
	t.Helper()
	h := &hall{t: t, db: &countedRecords{DB: db}, bus: inproc.New()}
	s, err := event.New(event.Config{Records: h.db, Bus: h.bus, Allows: func(auth.Principal, optionsv1.Permission) bool { return true }})
	require.NoError(t, err)
	h.Service = s
	run(t, s)
	return h
}

func onSQLite(t testing.TB) records.DB {
	t.Helper()
	db, err := sqlite.Open(t.Context(), sqlite.Config{Path: t.TempDir() + "/records.db"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// write adds n events of the organisation and numbers them, as a service and the
// sequencer do.
func (h *hall) write(org string, n int, hint bool) {
	h.t.Helper()
	require.NoError(h.t, h.db.Update(h.t.Context(), func(tx records.Tx) error {
		for range n {
			e := records.Event{ID: uuid.Must(uuid.NewV7()).String(), Org: org, Type: "room.created", Subject: "orgs/" + org + "/rooms/r", Body: []byte(`{}`)}
			if err := tx.Event(h.t.Context(), e); err != nil {
				return err
			}
		}
		return nil
	}))
	_, err := h.db.Log().NumberEvents(h.t.Context(), 1, 8000)
	require.NoError(h.t, err)
	if hint {
		require.NoError(h.t, h.bus.Publish(h.t.Context(), bus.EventsNumbered, nil))
	}
}

// seat is one watcher.
type seat struct {
	grpc.ServerStream
	ctx  context.Context
	slow func() // called with each event

	mu  sync.Mutex
	got []int64
	at  time.Time // of the newest one
}

func (s *seat) Context() context.Context { return s.ctx }

func (s *seat) Send(m *eventv1.WatchEventsResponse) error {
	if s.slow != nil {
		s.slow()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got, s.at = append(s.got, m.GetEvent().GetSequence()), time.Now()
	return nil
}

func (s *seat) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got)
}

// inOrder fails unless the watcher got every event after a sequence once, in order.
func (s *seat) inOrder(t *testing.T, after int64) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, seq := range s.got {
		require.Equal(t, after+int64(i)+1, seq)
	}
}

// watch watches until the test ends.
func (h *hall) watch(org string, after int64, slow func()) *seat {
	h.t.Helper()
	ctx, cancel := context.WithCancel(auth.With(context.Background(), auth.Principal{Subject: "w", Org: org}))
	s := &seat{ctx: ctx, slow: slow}
	ended := make(chan error, 1)
	go func() { ended <- h.WatchEvents(&eventv1.WatchEventsRequest{AfterSequence: after}, s) }()
	h.t.Cleanup(func() {
		cancel()
		require.ErrorIs(h.t, <-ended, context.Canceled)
	})
	return s
}

// 1,000 idle watchers cost the records one transaction a second, and not 10,000.
func TestIdleWatchersCostNothing(t *testing.T) {
	h := newHall(t, onSQLite(t))
	for i := range 1000 {
		org := fmt.Sprintf("org%d", i%10)
		if i < 10 {
			h.write(org, 3, true)
		}
		h.watch(org, 3, nil)
	}
	time.Sleep(time.Second)
	last, events := h.db.last.Load(), h.db.events.Load()
	time.Sleep(4 * time.Second)
	require.LessOrEqual(t, h.db.last.Load()-last, int64(5))
	require.Zero(t, h.db.events.Load()-events)
}

// Whatever watchers do (begin anywhere, read slowly, come back), and however many
// events come at once, each gets every event once and in order.
func TestEveryWatcherGetsEveryEvent(t *testing.T) {
	h := newHall(t, onSQLite(t))
	rnd := rand.New(rand.NewPCG(15, 1))
	type watcher struct {
		*seat
		after int64
	}
	var all []watcher
	const orgs, rounds = 3, 25
	var written [orgs]int64
	for round := range rounds {
		for i := range orgs {
			org := fmt.Sprintf("org%d", i)
			if round%2 == 0 {
				after := rnd.Int64N(written[i] + 1)
				var slow func()
				if rnd.IntN(2) == 0 {
					pause := time.Duration(rnd.IntN(300)) * time.Microsecond
					slow = func() { time.Sleep(pause) }
				}
				all = append(all, watcher{h.watch(org, after, slow), after})
			}
			n := rnd.IntN(5)
			if rnd.IntN(8) == 0 {
				n = 1200 + rnd.IntN(800) // more than is kept in memory
			}
			h.write(org, n, rnd.IntN(2) == 0)
			written[i] += int64(n)
		}
		time.Sleep(time.Duration(rnd.IntN(80)) * time.Millisecond)
	}
	for i, w := range all {
		want := int(written[i%orgs] - w.after)
		require.Eventually(t, func() bool { return w.count() >= want }, time.Minute, 10*time.Millisecond, "watcher %d has %d of %d", i, w.count(), want)
		w.inOrder(t, w.after)
		require.Equal(t, want, w.count())
	}
}

// A watcher that reads nothing keeps no other one waiting, holds no more memory than
// the window, and misses nothing once it reads.
func TestASlowWatcherHarmsNobody(t *testing.T) {
	h := newHall(t, onSQLite(t))
	release := make(chan struct{})
	slow := h.watch("acme", 0, func() { <-release })
	quick := h.watch("acme", 0, nil)
	for range 4 {
		h.write("acme", 900, true)
		time.Sleep(200 * time.Millisecond)
	}
	require.Eventually(t, func() bool { return quick.count() == 3600 }, 10*time.Second, 10*time.Millisecond)
	require.Zero(t, slow.count())
	close(release)
	require.Eventually(t, func() bool { return slow.count() == 3600 }, 10*time.Second, 10*time.Millisecond)
	quick.inOrder(t, 0)
	slow.inOrder(t, 0)
}

// The bus's hint makes a new event come at once; without it, it comes within the
// interval.
func TestAHintWakesTheWatchers(t *testing.T) {
	h := newHall(t, onSQLite(t))
	w := h.watch("acme", 0, nil)
	time.Sleep(300 * time.Millisecond)
	late := 0 // on a machine that is busy
	for i := 1; i <= 8; i++ {
		begin := time.Now()
		h.write("acme", 1, true)
		require.Eventually(t, func() bool { return w.count() == i }, 3*time.Second, time.Millisecond)
		if w.at.Sub(begin) > 400*time.Millisecond {
			late++
		}
		time.Sleep(130 * time.Millisecond)
	}
	require.LessOrEqual(t, late, 1, "without hints it would be most of them")
	h.write("acme", 1, false)
	require.Eventually(t, func() bool { return w.count() == 9 }, 3*time.Second, time.Millisecond)
}

// While the records are away, watchers wait; then they get what they have missed.
func TestWatchersWaitForTheRecords(t *testing.T) {
	h := newHall(t, onSQLite(t))
	w := h.watch("acme", 0, nil)
	h.write("acme", 5, true)
	require.Eventually(t, func() bool { return w.count() == 5 }, 5*time.Second, time.Millisecond)
	h.db.away.Store(true)
	late := h.watch("acme", 5, nil)
	h.write("acme", 5, true)
	time.Sleep(2500 * time.Millisecond)
	require.Equal(t, 5, w.count())
	h.db.away.Store(false)
	require.Eventually(t, func() bool { return w.count() == 10 && late.count() == 5 }, 5*time.Second, time.Millisecond)
	w.inOrder(t, 0)
	late.inOrder(t, 5)
}

// A watcher that begins before events that were deleted gets those that are there,
// and does not ask for the others for ever.
func TestWatchingFromBeforeWhatIsKept(t *testing.T) {
	h := newHall(t, onSQLite(t))
	h.write("acme", 10, true)
	_, err := h.db.Log().PruneEvents(t.Context(), time.Now().Add(time.Hour))
	require.NoError(t, err)
	w := h.watch("acme", 2, nil)
	time.Sleep(500 * time.Millisecond)
	require.LessOrEqual(t, h.db.events.Load(), int64(3))
	h.write("acme", 1, true)
	require.Eventually(t, func() bool { return w.count() == 1 }, 5*time.Second, time.Millisecond)
	require.Equal(t, []int64{11}, w.got)
}
