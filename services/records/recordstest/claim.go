package recordstest

import (
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/records"
)

// seen is the fence that a holder reads before it acquires its lease.
func seen(t *testing.T, s records.DB) int64 {
	t.Helper()
	cp, err := s.Log().Checkpoint(t.Context())
	require.NoError(t, err)
	return cp.Fence
}

// claim: a clock was years ahead once. Each later holder still writes, and the
// one before it does not.
func claim(t *testing.T, s records.DB) {
	ctx := t.Context()
	far := time.Now().AddDate(30, 0, 0).UnixMicro()
	last, err := s.Log().Claim(ctx, seen(t, s), far)
	require.NoError(t, err)
	require.Equal(t, far, last, "a token that is higher counts as it is")
	for range 3 {
		fence, err := s.Log().Claim(ctx, seen(t, s), time.Now().UnixMicro())
		require.NoError(t, err, "a lower token does not stop the log")
		require.Equal(t, last+1, fence)
		addLeaves(t, s, "a")
		require.ErrorIs(t, errOf(s.Log().Grow(ctx, last, 10, build)), records.ErrFenced, "the holder before is fenced")
		require.ErrorIs(t, errOf(s.Log().NumberEvents(ctx, last, 10)), records.ErrFenced)
		require.ErrorIs(t, s.Log().Published(ctx, last, 0), records.ErrFenced)
		growAll(t, s, fence)
		last = fence
	}
	require.Len(t, checkTree(t, s), 3)

	// A holder that slept between its lease and its claim is stale.
	before := seen(t, s)
	fence, err := s.Log().Claim(ctx, before, time.Now().UnixMicro())
	require.NoError(t, err)
	_, err = s.Log().Claim(ctx, before, math.MaxInt64-1)
	require.ErrorIs(t, err, records.ErrFenced, "not even with a higher token")
	require.Equal(t, fence, seen(t, s), "and changes nothing")
}

// claimRace: of those who have seen the same fence, one becomes the writer.
func claimRace(t *testing.T, s records.DB) {
	before := seen(t, s)
	var won atomic.Int64
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			fence, err := s.Log().Claim(t.Context(), before, int64(i))
			if err == nil && !won.CompareAndSwap(0, fence) {
				t.Error("two have claimed the log")
			}
		})
	}
	wg.Wait()
	require.NotZero(t, won.Load())
	require.Equal(t, won.Load(), seen(t, s))
}
