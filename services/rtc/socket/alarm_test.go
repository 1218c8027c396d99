package socket

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestAlarm: a ring ends the current wait or the next one, and only one.
func TestAlarm(t *testing.T) {
	a, err := NewAlarm()
	require.NoError(t, err)
	defer func() { require.NoError(t, a.Close()) }()
	full := func(d time.Duration) time.Duration { // although Go may end waits early
		begin := time.Now()
		for i := 0; time.Since(begin) < d; i++ {
			require.Less(t, i, 1000, "it does not wait")
			a.Wait(d - time.Since(begin))
		}
		return time.Since(begin)
	}
	require.GreaterOrEqual(t, full(20*time.Millisecond), 20*time.Millisecond)
	begin := time.Now()
	a.Wait(-time.Second)
	a.Wait(0)
	a.Wait(time.Hour) // MaxWait at most
	require.Less(t, time.Since(begin), patience)

	// Rung before the wait: 200 waits of 10 ms would take 2 s.
	begin = time.Now()
	for range 200 {
		a.Ring()
		a.Ring() // two are one
		a.Wait(MaxWait)
	}
	require.Less(t, time.Since(begin), 200*MaxWait/2)

	// Rung during the wait.
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 300 {
			a.Wait(MaxWait)
		}
	}()
	begin = time.Now()
	for ring := true; ring; {
		select {
		case <-done:
			ring = false
		default:
			a.Ring()
			runtime.Gosched()
		}
	}
	require.Less(t, time.Since(begin), 300*MaxWait/2)
	a.Ring()
	a.Wait(MaxWait)
	full(10 * time.Millisecond) // no ring is left over
}

// TestWhenDone: after stop, the function has returned or is never called.
func TestWhenDone(t *testing.T) {
	for range 200 {
		ctx, cancel := context.WithCancel(t.Context())
		var begun, ended atomic.Bool
		stop := whenDone(ctx, func() {
			begun.Store(true)
			runtime.Gosched()
			ended.Store(true)
		})
		go cancel()
		runtime.Gosched()
		stop()
		require.Equal(t, begun.Load(), ended.Load())
		cancel()
	}
}
