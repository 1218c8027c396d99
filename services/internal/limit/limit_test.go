package limit_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/internal/limit"
)

// A window's worth may come at once, the next when its time has come; another key
// notices nothing.
func TestTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := limit.New[string](6, time.Minute)
		require.NoError(t, err)
		for range 6 {
			require.Zero(t, l.Take("ann"))
		}
		require.Equal(t, 10*time.Second, l.Take("ann").Round(time.Millisecond))
		require.Zero(t, l.Take("ben"))
		time.Sleep(10 * time.Second)
		require.Zero(t, l.Take("ann"))
		require.NotZero(t, l.Take("ann"))
	})
}

func TestNoLimit(t *testing.T) {
	l, err := limit.New[int](0, time.Second)
	require.NoError(t, err)
	for range 1000 {
		require.Zero(t, l.Take(1))
	}
}

// Many keys cost bounded memory: the oldest is forgotten.
func TestKeysAreBounded(t *testing.T) {
	l, err := limit.New[int](1, time.Hour)
	require.NoError(t, err)
	for key := range limit.MaxKeys + 1 {
		require.Zero(t, l.Take(key))
	}
	require.Zero(t, l.Take(0), "forgotten")
	require.NotZero(t, l.Take(limit.MaxKeys))
}
