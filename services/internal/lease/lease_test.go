package lease_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/bus/inproc"
	"github.com/openova-io/bp-relay/services/internal/lease"
)

const ttl = 9 * time.Second

// flaky is a bus that one replica cannot reach while it is away.
type flaky struct {
	bus.Bus
	away atomic.Bool
}

func (f *flaky) Acquire(ctx context.Context, name string, ttl time.Duration) (bus.Lease, error) {
	if f.away.Load() {
		return nil, bus.ErrUnavailable
	}
	l, err := f.Bus.Acquire(ctx, name, ttl)
	return flakyLease{l, f}, err
}

type flakyLease struct {
	bus.Lease
	bus *flaky
}

func (l flakyLease) Renew(ctx context.Context, ttl time.Duration) error {
	if l.bus.away.Load() {
		return bus.ErrUnavailable
	}
	return l.Lease.Renew(ctx, ttl)
}

// world is two replicas on one bus; the second one always reaches it.
type world struct {
	flaky *flaky
	sound bus.Bus
}

func newWorld() world {
	b := inproc.New()
	return world{flaky: &flaky{Bus: b}, sound: b}
}

func (w world) config(regain bool) lease.Config {
	return lease.Config{Bus: w.flaky, Name: "n", TTL: ttl, Regain: regain}
}

func (w world) acquire(t *testing.T, regain bool) *lease.Lease {
	t.Helper()
	l, err := lease.Acquire(t.Context(), w.config(regain))
	require.NoError(t, err)
	return l
}

// keep runs Keep and returns its result.
func keep(t *testing.T, l *lease.Lease) (lost <-chan error, stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	c := make(chan error, 1)
	go func() { c <- l.Keep(ctx) }()
	return c, cancel
}

func running(t *testing.T, lost <-chan error) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-lost:
		require.FailNow(t, "Keep has returned", "%v", err)
	default:
	}
}

func TestKeptUntilReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		l := w.acquire(t, false)
		token := l.Token()
		lost, stop := keep(t, l)
		time.Sleep(10 * ttl)
		running(t, lost)
		_, err := lease.Acquire(t.Context(), w.config(false))
		require.ErrorIs(t, err, bus.ErrHeld)
		require.Equal(t, token, l.Token())
		stop()
		require.NoError(t, <-lost)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		require.NoError(t, l.Release(ended), "a context that has ended does not keep it held")
		require.NoError(t, l.Release(ended), "twice is once")
		require.Zero(t, l.Token())
		require.Greater(t, w.acquire(t, false).Token(), token)
	})
}

// A bus that is away for less than the TTL costs nothing; after the TTL the
// lease has run out.
func TestBusAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		l := w.acquire(t, false)
		lost, stop := keep(t, l)
		defer stop()
		w.flaky.away.Store(true)
		time.Sleep(ttl / 2)
		w.flaky.away.Store(false)
		time.Sleep(ttl / 3)
		running(t, lost)

		w.flaky.away.Store(true)
		since := time.Now()
		require.ErrorIs(t, <-lost, bus.ErrUnavailable)
		require.Greater(t, time.Since(since), ttl-ttl/3)
		require.LessOrEqual(t, time.Since(since), ttl+ttl/3)
	})
}

func TestTakenByAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		l := w.acquire(t, false)
		w.flaky.away.Store(true)
		time.Sleep(ttl)
		_, err := w.sound.Acquire(t.Context(), "n", time.Hour)
		require.NoError(t, err)
		w.flaky.away.Store(false)
		lost, stop := keep(t, l)
		defer stop()
		require.ErrorIs(t, <-lost, bus.ErrLost)
		require.ErrorIs(t, l.Renew(t.Context()), bus.ErrLost, "what is lost stays lost")
	})
}

func TestRegain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		l := w.acquire(t, true)
		token := l.Token()
		lost, stop := keep(t, l)
		w.flaky.away.Store(true)
		time.Sleep(3 * ttl)
		w.flaky.away.Store(false)
		time.Sleep(ttl)
		running(t, lost)
		require.Greater(t, l.Token(), token, "nobody had it meanwhile")
		_, err := w.sound.Acquire(t.Context(), "n", ttl)
		require.ErrorIs(t, err, bus.ErrHeld)

		w.flaky.away.Store(true)
		time.Sleep(3 * ttl)
		other, err := w.sound.Acquire(t.Context(), "n", time.Hour)
		require.NoError(t, err)
		running(t, lost)
		w.flaky.away.Store(false)
		require.ErrorIs(t, <-lost, bus.ErrHeld)
		require.ErrorIs(t, l.Renew(t.Context()), bus.ErrHeld)
		require.Zero(t, l.Token())
		stop()

		lost, stop = keep(t, l)
		require.ErrorIs(t, <-lost, bus.ErrHeld)
		stop()
		require.NoError(t, other.Release(t.Context()))
		lost, stop = keep(t, l)
		time.Sleep(ttl)
		running(t, lost)
		require.NotZero(t, l.Token(), "it is regained once it is free")
		stop()
		require.NoError(t, <-lost)
	})
}

// A lease that was never held is not lost: a dead holder's lease runs out.
func TestWaitsUntilFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		_, err := w.sound.Acquire(t.Context(), "n", 2*ttl)
		require.NoError(t, err)
		l := lease.New(w.config(true))
		lost, stop := keep(t, l)
		time.Sleep(ttl)
		running(t, lost)
		require.Zero(t, l.Token())
		time.Sleep(2 * ttl)
		running(t, lost)
		require.NotZero(t, l.Token())
		stop()
		require.NoError(t, <-lost)
	})
}

// lockedBuilder is a log that one goroutine writes and another reads.
type lockedBuilder struct {
	mu sync.Mutex // guards b
	b  strings.Builder
}

func (l *lockedBuilder) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuilder) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A bus that is away for long is logged once per TTL, also while the lease was
// never held; a lease that another holder has, or a short refusal, is not.
func TestLongRefusalIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		var log lockedBuilder
		logged := log.String
		warnings := func() int { return strings.Count(logged(), "level=WARN") }
		cfg := w.config(true)
		cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
		other, err := w.sound.Acquire(t.Context(), "n", time.Hour)
		require.NoError(t, err)
		l := lease.New(cfg)
		lost, stop := keep(t, l)
		time.Sleep(3 * ttl)
		running(t, lost)
		require.Empty(t, logged(), "another holder")

		w.flaky.away.Store(true)
		time.Sleep(ttl - time.Second)
		running(t, lost)
		require.Zero(t, warnings(), "not for long")
		time.Sleep(3*ttl + 2*time.Second)
		running(t, lost)
		require.Equal(t, 4, warnings(), logged())
		require.Contains(t, logged(), "lease=n error=")

		w.flaky.away.Store(false)
		require.NoError(t, other.Release(t.Context()))
		time.Sleep(ttl)
		running(t, lost)
		require.NotZero(t, l.Token())
		w.flaky.away.Store(true)
		time.Sleep(ttl + time.Second)
		running(t, lost)
		require.Equal(t, 5, warnings(), "a held lease")
		stop()
		require.NoError(t, <-lost)
	})
}

func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		failed := errors.New("failed")
		l := w.acquire(t, false)
		require.ErrorIs(t, l.Hold(t.Context(), func(context.Context) error {
			time.Sleep(5 * ttl)
			return failed
		}), failed)
		w.flaky.away.Store(true)
		require.ErrorIs(t, l.Hold(t.Context(), func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}), bus.ErrUnavailable)

		w.flaky.away.Store(false)
		require.NoError(t, l.Release(t.Context()))
		l = w.acquire(t, false)
		ctx, cancel := context.WithTimeout(t.Context(), 5*ttl)
		defer cancel()
		require.ErrorIs(t, l.Hold(ctx, func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}), context.DeadlineExceeded)
	})
}
