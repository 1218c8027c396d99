package bustest

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/bus"
)

func leaseHeld(t *testing.T, open Open) {
	a, b, n := open(), open(), name(t)
	l, err := a.Acquire(t.Context(), n, time.Minute)
	require.NoError(t, err)
	_, err = b.Acquire(t.Context(), n, time.Minute)
	require.ErrorIs(t, err, bus.ErrHeld)
	_, err = a.Acquire(t.Context(), n, time.Minute)
	require.ErrorIs(t, err, bus.ErrHeld, "the holder itself is no exception")
	other, err := b.Acquire(t.Context(), n+"2", time.Minute)
	require.NoError(t, err, "another name is another lease")
	require.NoError(t, other.Release(t.Context()))
	require.NoError(t, l.Release(t.Context()))
	_, err = b.Acquire(t.Context(), n, time.Minute)
	require.NoError(t, err)
}

func leaseTokensGrow(t *testing.T, open Open) {
	b, n := open(), name(t)
	last := time.Now().Add(-time.Minute).UnixMicro()
	for range 200 {
		l, err := b.Acquire(t.Context(), n, time.Minute)
		require.NoError(t, err)
		require.Greater(t, l.Token(), last, "the first too is about the time of day")
		last = l.Token()
		require.NoError(t, l.Release(t.Context()))
	}
}

func leaseExpires(t *testing.T, open Open) {
	a, b, n := open(), open(), name(t)
	start := time.Now()
	old, err := a.Acquire(t.Context(), n, ttl)
	require.NoError(t, err)
	var l bus.Lease
	until(t, ttl+late, "the lease must expire", func() bool {
		l, err = b.Acquire(t.Context(), n, time.Minute)
		return err == nil
	})
	require.GreaterOrEqual(t, time.Since(start), ttl-early, "not before its time")
	require.Greater(t, l.Token(), old.Token())
	require.ErrorIs(t, old.Renew(t.Context(), time.Minute), bus.ErrLost)
	require.NoError(t, l.Renew(t.Context(), time.Minute), "the new holder is not disturbed")
}

func leaseRenew(t *testing.T, open Open) {
	a, b, n := open(), open(), name(t)
	l, err := a.Acquire(t.Context(), n, ttl)
	require.NoError(t, err)
	start := time.Now()
	for time.Since(start) < 2*ttl {
		require.NoError(t, l.Renew(t.Context(), ttl))
		_, err = b.Acquire(t.Context(), n, ttl)
		require.ErrorIs(t, err, bus.ErrHeld)
		time.Sleep(ttl / 10)
	}
	// It is lost although no other holder took it: one may have taken and
	// released it in between.
	until(t, ttl+late, "the lease must expire", func() bool {
		time.Sleep(2 * ttl)
		return l.Renew(t.Context(), ttl) != nil
	})
	require.ErrorIs(t, l.Renew(t.Context(), ttl), bus.ErrLost)
}

func leaseReleaseOnlyOwn(t *testing.T, open Open) {
	a, b, n := open(), open(), name(t)
	old, err := a.Acquire(t.Context(), n, time.Minute)
	require.NoError(t, err)
	require.NoError(t, old.Release(t.Context()))
	l, err := b.Acquire(t.Context(), n, time.Minute)
	require.NoError(t, err)
	require.NoError(t, old.Release(t.Context()), "a lost lease is released without an error")
	require.NoError(t, l.Renew(t.Context(), time.Minute), "but only the own one")
	require.ErrorIs(t, old.Renew(t.Context(), time.Minute), bus.ErrLost)
}

func leaseRace(t *testing.T, open Open) {
	n := name(t)
	var wg sync.WaitGroup
	leases := make([]bus.Lease, 16)
	errs := make([]error, len(leases))
	for i := range leases {
		b := open()
		wg.Go(func() { leases[i], errs[i] = b.Acquire(t.Context(), n, time.Minute) })
	}
	wg.Wait()
	won := 0
	for i := range leases {
		if errs[i] == nil {
			won++
			continue
		}
		require.ErrorIs(t, errs[i], bus.ErrHeld)
	}
	require.Equal(t, 1, won)
}
