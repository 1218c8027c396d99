package task_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/internal/task"
)

func TestStopEndsAndWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := task.New()
		var ended atomic.Int32
		for range 3 {
			require.True(t, g.Go("a", func(ctx context.Context) {
				<-ctx.Done()
				ended.Add(1)
			}))
		}
		require.True(t, g.Has("a"))
		g.Stop()
		require.EqualValues(t, 3, ended.Load())
		require.False(t, g.Has("a"))
		require.False(t, g.Go("a", func(context.Context) { t.Error("ran after Stop") }))
		_, _, ok := g.Begin("a")
		require.False(t, ok)
		g.Stop()
	})
}

func TestGoOnce(t *testing.T) {
	g := task.New()
	defer g.Stop()
	block := make(chan struct{})
	require.True(t, g.GoOnce("a", func(context.Context) { <-block }))
	require.False(t, g.GoOnce("a", func(context.Context) { t.Error("ran twice") }))
	require.True(t, g.GoOnce("b", func(context.Context) {}))
	close(block)
	g.Wait()
	require.True(t, g.GoOnce("a", func(context.Context) {}), "the key is free again")
}

func TestBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := task.New()
		ctx, done, ok := g.Begin("s")
		require.True(t, ok)
		stopped := make(chan struct{})
		go func() { g.Stop(); close(stopped) }()
		<-ctx.Done()
		synctest.Wait()
		select {
		case <-stopped:
			t.Fatal("Stop did not wait for the task")
		default:
		}
		done()
		<-stopped
	})
}

func TestHeld(t *testing.T) {
	g := task.NewHeld()
	var ran atomic.Int32
	require.True(t, g.Go("a", func(context.Context) { ran.Add(1) }))
	require.True(t, g.Has("a"))
	require.Zero(t, ran.Load())
	g.Release()
	g.Wait()
	require.EqualValues(t, 1, ran.Load())

	never := task.NewHeld()
	require.True(t, never.Go("a", func(context.Context) { t.Error("ran without Release") }))
	_, done, ok := never.Begin("a")
	require.True(t, ok)
	never.Close()
	require.True(t, never.Has("a"), "the begun one still runs")
	done()
	require.False(t, never.Has("a"), "the waiting one is forgotten")
	never.Stop()
	never.Release()
}
