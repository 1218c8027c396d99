// Package jobtest is the conformance suite of package job: it runs jobs on a
// records engine, on one and on several replicas, and takes their lease, their
// process and their errors away.
package jobtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/bus/inproc"
	"github.com/openova-io/bp-relay/services/job"
	"github.com/openova-io/bp-relay/services/records"
)

const (
	poll = 10 * time.Millisecond
	ttl  = 300 * time.Millisecond
	wait = 20 * time.Second
)

// Run runs the suite. open returns empty records, which it closes at the end of
// the test.
func Run(t *testing.T, open func(t *testing.T) records.DB) {
	for name, test := range map[string]func(*testing.T, world){
		"DoneWithProgress":   doneWithProgress,
		"InsertAndEnsure":    insertAndEnsure,
		"EnsureRevises":      ensureRevises,
		"RunsWhenDue":        runsWhenDue,
		"ClockWasAhead":      clockWasAhead,
		"ResumesAtCursor":    resumesAtCursor,
		"LostLease":          lostLease,
		"OneRunnerPerJob":    oneRunnerPerJob,
		"RetriesWithDelay":   retriesWithDelay,
		"PermanentError":     permanentError,
		"Recurs":             recurs,
		"OtherKindsLeft":     otherKindsLeft,
		"SlotsBoundParallel": slotsBoundParallel,
	} {
		t.Run(name, func(t *testing.T) { test(t, world{db: open(t), bus: inproc.New()}) })
	}
}

// world is what replicas share.
type world struct {
	db  records.DB
	bus bus.Bus
}

// away is a bus that one replica cannot reach once it is set.
type away struct {
	bus.Bus
	set atomic.Bool
}

func (a *away) Acquire(ctx context.Context, name string, ttl time.Duration) (bus.Lease, error) {
	if a.set.Load() {
		return nil, bus.ErrUnavailable
	}
	l, err := a.Bus.Acquire(ctx, name, ttl)
	return awayLease{l, a}, err
}

type awayLease struct {
	bus.Lease
	bus *away
}

func (l awayLease) Renew(ctx context.Context, ttl time.Duration) error {
	if l.bus.set.Load() {
		return bus.ErrUnavailable
	}
	return l.Lease.Renew(ctx, ttl)
}

func (l awayLease) Release(ctx context.Context) error {
	if l.bus.set.Load() {
		return bus.ErrUnavailable
	}
	return l.Lease.Release(ctx)
}

// replica runs a runner until stop is called or the test ends.
func (w world) replica(t *testing.T, works map[string]job.Work, change func(*job.Config)) (stop func()) {
	t.Helper()
	cfg := job.Config{
		Records: w.db, Bus: w.bus, Works: works, Poll: poll, LeaseTTL: ttl,
		Retry: 50 * time.Millisecond, MaxRetry: 100 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&cfg)
	}
	r, err := job.New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	t.Cleanup(stop)
	return stop
}

// add inserts a job of kind "work".
func (w world) add(t *testing.T, name string, change func(*job.Job)) {
	t.Helper()
	j := job.Job{Name: name, Org: "acme", Kind: "work"}
	if change != nil {
		change(&j)
	}
	require.NoError(t, w.db.Update(t.Context(), func(tx records.Tx) error { return job.Insert(t.Context(), tx, j) }))
}

func (w world) get(t *testing.T, name string) (j job.Job) {
	t.Helper()
	require.NoError(t, w.db.View(t.Context(), func(tx records.Tx) (err error) {
		j, err = job.Get(t.Context(), tx, name)
		return err
	}))
	return j
}

// becomes waits for a state.
func (w world) becomes(t *testing.T, name string, st job.State) (j job.Job) {
	t.Helper()
	require.Eventually(t, func() bool {
		j = w.get(t, name)
		return j.State == st
	}, wait, poll, "%s becomes %s", name, st)
	return j
}

func doneWithProgress(t *testing.T, w world) {
	steps := make(chan struct{})
	w.replica(t, map[string]job.Work{"work": func(ctx context.Context, r *job.Run) error {
		assert.JSONEq(t, `{"n":3}`, string(r.Job().Input))
		for i := range int64(3) {
			<-steps
			if err := r.Save(ctx, fmt.Sprint(i+1), job.Progress{Done: i + 1, Total: 3}); err != nil {
				return err
			}
		}
		<-steps
		return nil
	}}, nil)
	w.add(t, "j", func(j *job.Job) { j.Input = []byte(`{"n":3}`) })
	for i := range int64(3) {
		steps <- struct{}{}
		require.Eventually(t, func() bool { return w.get(t, "j").Progress == job.Progress{Done: i + 1, Total: 3} }, wait, poll)
		require.Equal(t, job.Running, w.get(t, "j").State)
	}
	steps <- struct{}{}
	j := w.becomes(t, "j", job.Done)
	require.Equal(t, "3", j.Cursor)
	require.Empty(t, j.Error)
	require.Equal(t, "acme", j.Org)
}

func runsWhenDue(t *testing.T, w world) {
	due := time.Now().Add(300 * time.Millisecond)
	ran := make(chan time.Time, 1)
	w.replica(t, map[string]job.Work{"work": func(context.Context, *job.Run) error {
		ran <- time.Now()
		return nil
	}}, nil)
	w.add(t, "j", func(j *job.Job) { j.Due = due })
	require.False(t, (<-ran).Before(due))
	w.becomes(t, "j", job.Done)
}

// resumesAtCursor stops the process in the middle: the next one goes on where
// the first one saved, at once, and the interruption is no failure.
func resumesAtCursor(t *testing.T, w world) {
	saved := make(chan struct{})
	stop := w.replica(t, map[string]job.Work{"work": func(ctx context.Context, r *job.Run) error {
		if err := r.Save(ctx, "middle", job.Progress{Done: 1, Total: 2}); err != nil {
			return err
		}
		close(saved)
		<-ctx.Done()
		return ctx.Err()
	}}, nil)
	w.add(t, "j", nil)
	<-saved
	stop()
	require.Equal(t, job.Running, w.get(t, "j").State)
	from := make(chan string, 1)
	w.replica(t, map[string]job.Work{"work": func(_ context.Context, r *job.Run) error {
		from <- r.Job().Cursor
		return nil
	}}, nil)
	require.Equal(t, "middle", <-from)
	require.Zero(t, w.becomes(t, "j", job.Done).Failures)
}

// lostLease cuts a replica off its bus: another one takes the job, and what the
// first one saves then is refused.
func lostLease(t *testing.T, w world) {
	gone := &away{Bus: w.bus}
	began, late := make(chan struct{}), make(chan error, 1)
	w.replica(t, map[string]job.Work{"work": func(ctx context.Context, r *job.Run) error {
		if err := r.Save(ctx, "first", job.Progress{Done: 1}); err != nil {
			return err
		}
		close(began)
		<-ctx.Done()
		time.Sleep(2 * ttl) // it does not stop at once
		late <- r.Save(context.Background(), "late", job.Progress{})
		return nil
	}}, func(c *job.Config) { c.Bus = gone })
	w.add(t, "j", nil)
	<-began
	gone.set.Store(true)
	from, finish := make(chan string, 1), make(chan struct{})
	w.replica(t, map[string]job.Work{"work": func(ctx context.Context, r *job.Run) error {
		from <- r.Job().Cursor
		<-finish
		return r.Save(ctx, "second", job.Progress{Done: 2})
	}}, nil)
	require.Equal(t, "first", <-from)
	require.ErrorIs(t, <-late, job.ErrTaken)
	close(finish)
	require.Equal(t, "second", w.becomes(t, "j", job.Done).Cursor)
}

// oneRunnerPerJob has three replicas run many jobs.
func oneRunnerPerJob(t *testing.T, w world) {
	const jobs = 30
	var mu sync.Mutex
	inside, runs := map[string]int{}, map[string]int{}
	for range 3 {
		w.replica(t, map[string]job.Work{"work": func(_ context.Context, r *job.Run) error {
			name := r.Job().Name
			mu.Lock()
			inside[name]++
			runs[name]++
			alone := inside[name] == 1
			mu.Unlock()
			time.Sleep(5 * time.Millisecond)
			mu.Lock()
			inside[name]--
			mu.Unlock()
			if !alone {
				return job.Permanent(errors.New("not alone"))
			}
			return nil
		}}, nil)
	}
	for i := range jobs {
		w.add(t, "j"+strconv.Itoa(i), nil)
	}
	for i := range jobs {
		w.becomes(t, "j"+strconv.Itoa(i), job.Done)
	}
	mu.Lock()
	defer mu.Unlock()
	for i := range jobs {
		require.Equal(t, 1, runs["j"+strconv.Itoa(i)])
	}
}

// retriesWithDelay fails three times; what was saved counts the failures anew.
func retriesWithDelay(t *testing.T, w world) {
	at := make(chan time.Time, 10)
	w.replica(t, map[string]job.Work{"work": func(ctx context.Context, r *job.Run) error {
		at <- time.Now()
		switch len(at) {
		case 1, 2:
			assert.Equal(t, len(at)-1, r.Job().Failures)
			return errors.New("not yet")
		case 3:
			if err := r.Save(ctx, "half", job.Progress{Done: 1}); err != nil {
				return err
			}
			return errors.New("half way")
		}
		assert.Equal(t, 1, r.Job().Failures)
		assert.Equal(t, "half way", r.Job().Error)
		assert.Equal(t, "half", r.Job().Cursor)
		return nil
	}}, nil)
	w.add(t, "j", nil)
	j := w.becomes(t, "j", job.Done)
	require.Zero(t, j.Failures)
	require.Empty(t, j.Error)
	require.Len(t, at, 4)
	first, second, third := <-at, <-at, <-at
	require.GreaterOrEqual(t, second.Sub(first), 50*time.Millisecond)
	require.GreaterOrEqual(t, third.Sub(second), 100*time.Millisecond)
}

func permanentError(t *testing.T, w world) {
	var runs atomic.Int32
	w.replica(t, map[string]job.Work{"work": func(context.Context, *job.Run) error {
		runs.Add(1)
		return fmt.Errorf("compose: %w", job.Permanent(errors.New("no such recording")))
	}}, nil)
	w.add(t, "j", nil)
	require.Equal(t, "compose: no such recording", w.becomes(t, "j", job.Failed).Error)
	time.Sleep(10 * poll)
	require.EqualValues(t, 1, runs.Load())
	require.NoError(t, job.Permanent(nil))
}

func recurs(t *testing.T, w world) {
	at := make(chan time.Time, 100)
	w.replica(t, map[string]job.Work{"work": func(ctx context.Context, r *job.Run) error {
		assert.Empty(t, r.Job().Cursor, "each time from the beginning")
		at <- time.Now()
		return r.Save(ctx, "end", job.Progress{Done: 7, Total: 7})
	}}, func(c *job.Config) {
		c.Recurring = []job.Job{{Name: "j", Org: job.Everyone, Kind: "work", Every: 100 * time.Millisecond}}
	})
	first, second := <-at, <-at
	require.GreaterOrEqual(t, second.Sub(first), 100*time.Millisecond)
	<-at
	j := w.becomes(t, "j", job.Waiting)
	require.Equal(t, job.Progress{Done: 7, Total: 7}, j.Progress, "the last run's progress stays")
	require.Empty(t, j.Cursor)
}

func otherKindsLeft(t *testing.T, w world) {
	w.replica(t, map[string]job.Work{"work": func(context.Context, *job.Run) error { return nil }}, nil)
	w.add(t, "a", func(j *job.Job) { j.Kind = "other" })
	w.add(t, "b", nil)
	w.becomes(t, "b", job.Done)
	require.Equal(t, job.Waiting, w.get(t, "a").State)
}

func slotsBoundParallel(t *testing.T, w world) {
	var inside, most atomic.Int32
	w.replica(t, map[string]job.Work{"work": func(context.Context, *job.Run) error {
		n := inside.Add(1)
		defer inside.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(3 * poll)
		return nil
	}}, func(c *job.Config) { c.Parallel = 2 })
	for i := range 8 {
		w.add(t, strconv.Itoa(i), nil)
	}
	for i := range 8 {
		w.becomes(t, strconv.Itoa(i), job.Done)
	}
	require.EqualValues(t, 2, most.Load())
}
