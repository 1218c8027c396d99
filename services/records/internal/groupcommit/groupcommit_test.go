package groupcommit_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/internal/groupcommit"
)

var errMine = errors.New("mine")

// gather is a committer that takes every update and answers what it returned.
func gather(sizes *[]int) func(*groupcommit.Update[int], func() *groupcommit.Update[int]) {
	return func(first *groupcommit.Update[int], more func() *groupcommit.Update[int]) {
		var ms []*groupcommit.Update[int]
		var errs []error
		for m := first; m != nil; m = more() {
			ms, errs = append(ms, m), append(errs, m.Run(len(ms)))
		}
		*sizes = append(*sizes, len(ms))
		for i, m := range ms {
			m.Answer(errs[i])
		}
	}
}

// TestGroups: updates that arrive while a group is open are in it.
func TestGroups(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	var sizes []int
	q := groupcommit.New(1, gather(&sizes))
	var wg sync.WaitGroup
	inside, waiting := make(chan struct{}), make(chan struct{})
	errs := make([]error, 21)
	wg.Go(func() {
		errs[20] = q.Do(t.Context(), func(int) error { close(inside); <-waiting; return nil })
	})
	<-inside
	ctx := &entered{Context: t.Context(), n: make(chan struct{}, 100)}
	for i := range 20 {
		wg.Go(func() {
			errs[i] = q.Do(ctx, func(int) error {
				if i%2 == 0 {
					return errMine
				}
				return nil
			})
		})
	}
	for range 40 { // each asks for ctx.Done before it is queued and after
		<-ctx.n
	}
	close(waiting)
	wg.Wait()
	for i, err := range errs[:20] {
		if i%2 == 0 {
			require.Same(t, errMine, err)
		} else {
			require.NoError(t, err)
		}
	}
	require.NoError(t, errs[20])
	require.True(t, q.Close())
	total := 0
	for _, n := range sizes {
		total += n
	}
	require.Equal(t, 21, total)
	require.LessOrEqual(t, len(sizes), 3, "few groups: %v", sizes)
	require.False(t, q.Close())
	require.ErrorIs(t, q.Do(t.Context(), func(int) error { return nil }), records.ErrClosed)
}

// entered tells when Do waits.
type entered struct {
	context.Context
	n chan struct{}
}

func (e *entered) Done() <-chan struct{} {
	select {
	case e.n <- struct{}{}:
	default:
	}
	return e.Context.Done()
}

// TestGone: the function of a caller that left before its turn never runs.
func TestGone(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	result := make(chan error, 1)
	begin := make(chan struct{})
	q := groupcommit.New(1, func(m *groupcommit.Update[int], _ func() *groupcommit.Update[int]) {
		<-begin
		result <- m.Run(1)
		m.Answer(nil)
	})
	ctx, cancel := context.WithCancel(t.Context())
	var ran atomic.Bool
	done := make(chan error, 1)
	go func() { done <- q.Do(ctx, func(int) error { ran.Store(true); return nil }) }()
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	close(begin)
	q.Close()
	select {
	case err := <-result:
		require.ErrorIs(t, err, groupcommit.ErrGone)
	default: // it left before it was queued
	}
	require.False(t, ran.Load())
}

// TestAgain: a committer may run an update again, and sees a panic as an error.
func TestAgain(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	var first, second error
	q := groupcommit.New(1, func(m *groupcommit.Update[int], _ func() *groupcommit.Update[int]) {
		first, second = m.Run(1), m.Run(2)
		m.Answer(second)
	})
	var got []int
	require.NoError(t, q.Do(t.Context(), func(n int) error {
		got = append(got, n)
		if n == 1 {
			return errMine
		}
		return nil
	}))
	require.Equal(t, []int{1, 2}, got)
	require.PanicsWithValue(t, "boom", func() { _ = q.Do(t.Context(), func(int) error { panic("boom") }) })
	q.Close()
	require.ErrorIs(t, first, groupcommit.ErrAborted)
	require.ErrorIs(t, second, groupcommit.ErrGone)
}
