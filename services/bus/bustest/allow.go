package bustest

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func allowLimit(t *testing.T, open Open) {
	a, b, key := open(), open(), name(t)
	for i := range 5 {
		from := a
		if i%2 == 1 {
			from = b
		}
		ok, retry, err := from.Allow(t.Context(), key, 5, time.Hour)
		require.NoError(t, err)
		require.True(t, ok, "use %d", i)
		require.Zero(t, retry)
	}
	for range 3 {
		ok, retry, err := b.Allow(t.Context(), key, 5, time.Hour)
		require.NoError(t, err)
		require.False(t, ok)
		require.InDelta(t, (time.Hour / 5).Seconds(), retry.Seconds(), 60, "a use that was refused does not count")
	}
}

func allowRefill(t *testing.T, open Open) {
	b, key := open(), name(t)
	const limit, window = 3, 9 * time.Second
	for range limit {
		ok, _, err := b.Allow(t.Context(), key, limit, window)
		require.NoError(t, err)
		require.True(t, ok)
	}
	ok, retry, err := b.Allow(t.Context(), key, limit, window)
	require.NoError(t, err)
	require.False(t, ok)
	require.Positive(t, retry)
	require.LessOrEqual(t, retry, window/limit)
	time.Sleep(retry + time.Millisecond)
	ok, _, err = b.Allow(t.Context(), key, limit, window)
	require.NoError(t, err)
	require.True(t, ok, "retry must be long enough")
	ok, _, err = b.Allow(t.Context(), key, limit, window)
	require.NoError(t, err)
	require.False(t, ok, "only one has come free")
}

func allowKeys(t *testing.T, open Open) {
	b, key := open(), name(t)
	for _, k := range []string{key + "a", key + "b"} {
		ok, _, err := b.Allow(t.Context(), k, 1, time.Hour)
		require.NoError(t, err)
		require.True(t, ok)
		ok, _, err = b.Allow(t.Context(), k, 1, time.Hour)
		require.NoError(t, err)
		require.False(t, ok)
	}
}

func allowRace(t *testing.T, open Open) {
	a, b, key := open(), open(), name(t)
	var allowed atomic.Int32
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			from := a
			if i%2 == 1 {
				from = b
			}
			for range 25 {
				ok, _, err := from.Allow(t.Context(), key, 50, time.Hour)
				if ok {
					allowed.Add(1)
				}
				errs[i] = errors.Join(errs[i], err)
			}
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
	require.EqualValues(t, 50, allowed.Load(), "of 200 uses at once")
}
