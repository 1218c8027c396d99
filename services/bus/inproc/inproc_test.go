package inproc_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/bus/bustest"
	"github.com/openova-io/bp-relay/services/bus/inproc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	for _, c := range bustest.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := inproc.New()
				defer b.Close()
				c.Run(t, func() bus.Bus { return b })
			})
		})
	}
}

func TestSharesNothing(t *testing.T) {
	a, b := inproc.New(), inproc.New()
	defer a.Close()
	defer b.Close()
	require.False(t, a.Shared())
	l, err := a.Acquire(t.Context(), "n", time.Minute)
	require.NoError(t, err)
	m, err := b.Acquire(t.Context(), "n", time.Minute)
	require.NoError(t, err)
	require.NotZero(t, l.Token())
	require.NotZero(t, m.Token())
}

// A process that restarts has lost its memory, but its tokens must still be
// greater.
func TestTokensGrowOverRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var last int64
		for range 5 {
			b := inproc.New()
			for range 100 { // all in one instant of the bubble's clock
				l, err := b.Acquire(t.Context(), "n", time.Minute)
				require.NoError(t, err)
				require.Greater(t, l.Token(), last)
				last = l.Token()
				require.NoError(t, l.Release(t.Context()))
			}
			require.NoError(t, b.Close())
			time.Sleep(time.Millisecond) // a restart takes longer
		}
	})
}

// Expiry is exact: held until the last nanosecond, gone with the next.
func TestExpiryIsExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := inproc.New()
		defer b.Close()
		ctx := t.Context()
		_, err := b.Acquire(ctx, "n", time.Minute)
		require.NoError(t, err)
		require.NoError(t, b.PutTicket(ctx, "id", []byte("v"), time.Minute))
		require.NoError(t, b.PutTicket(ctx, "id2", []byte("v"), time.Minute))
		require.NoError(t, b.SetPresence(ctx, "s", "m", nil, time.Minute))
		time.Sleep(time.Minute - 1)
		_, err = b.Acquire(ctx, "n", time.Minute)
		require.ErrorIs(t, err, bus.ErrHeld)
		_, err = b.TakeTicket(ctx, "id")
		require.NoError(t, err)
		here, err := b.Presence(ctx, "s")
		require.NoError(t, err)
		require.Len(t, here, 1)
		time.Sleep(time.Nanosecond)
		_, err = b.Acquire(ctx, "n", time.Minute)
		require.NoError(t, err)
		_, err = b.TakeTicket(ctx, "id2")
		require.ErrorIs(t, err, bus.ErrNoTicket)
		here, err = b.Presence(ctx, "s")
		require.NoError(t, err)
		require.Empty(t, here)
	})
}

// Entries that are never touched again must not stay forever.
func TestSweeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := inproc.New()
		defer b.Close()
		ctx := t.Context()
		for i := range 1000 {
			n := fmt.Sprint(i)
			require.NoError(t, b.PutTicket(ctx, n, nil, time.Second))
			require.NoError(t, b.SetPresence(ctx, n, "m", nil, time.Second))
			_, err := b.Acquire(ctx, n, time.Second)
			require.NoError(t, err)
			_, _, err = b.Allow(ctx, n, 1, time.Second)
			require.NoError(t, err)
		}
		require.Equal(t, 4000, b.Held())
		time.Sleep(time.Minute)
		require.NoError(t, b.Ping(ctx))
		require.Zero(t, b.Held())
	})
}
