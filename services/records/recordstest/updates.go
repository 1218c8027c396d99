package recordstest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/records"
)

// full writes a record with its event and leaf, as every service does.
func full(ctx context.Context, tx records.Tx, r records.Record) error {
	if _, err := tx.Insert(ctx, r); err != nil {
		return err
	}
	if err := tx.Event(ctx, eventOf(r.Org, r.Name)); err != nil {
		return err
	}
	return tx.Leaf(ctx, leafOf(r.Name, r.Name))
}

// number numbers everything and returns the subjects of acme's events and
// the leaves in order.
func number(t *testing.T, s records.DB) (subjects []string, ls []records.Leaf) {
	t.Helper()
	growAll(t, s, 1)
	for {
		n, err := s.Log().NumberEvents(t.Context(), 1, 1000)
		require.NoError(t, err)
		if n == 0 {
			break
		}
	}
	es, err := s.Log().Events(t.Context(), "acme", 0, 1<<20)
	require.NoError(t, err)
	for i, e := range es {
		require.EqualValues(t, i+1, e.Seq, "gapless")
		subjects = append(subjects, e.Subject)
	}
	cp, err := s.Log().Checkpoint(t.Context())
	require.NoError(t, err)
	ls, err = s.Log().Leaves(t.Context(), 0, cp.Size)
	require.NoError(t, err)
	require.Len(t, ls, int(cp.Size))
	return subjects, ls
}

func allOrNothing(t *testing.T, s records.DB) {
	ctx := t.Context()
	err := s.Update(ctx, func(tx records.Tx) error {
		require.NoError(t, full(ctx, tx, room("undone")))
		got, err := tx.Get(ctx, records.Rooms, room("undone").Name)
		require.NoError(t, err, "a transaction sees its own writes")
		require.EqualValues(t, 1, got.Version)
		return errMine
	})
	require.Same(t, errMine, err, "the function's error comes back as it is")
	require.NoError(t, s.Update(ctx, func(tx records.Tx) error { return full(ctx, tx, room("done")) }))
	_, err = get(ctx, s, records.Rooms, room("undone").Name)
	require.ErrorIs(t, err, records.ErrNotFound)
	subjects, ls := number(t, s)
	require.Equal(t, []string{room("done").Name}, subjects)
	require.Len(t, ls, 1)
	require.Equal(t, room("done").Name, string(ls[0].Body))

	require.NoError(t, s.Update(ctx, func(tx records.Tx) error {
		_, err := tx.Insert(ctx, room("done"))
		require.ErrorIs(t, err, records.ErrExists)
		_, err = tx.Update(ctx, room("nowhere"))
		require.ErrorIs(t, err, records.ErrNotFound)
		return full(ctx, tx, room("after")) // a handled error has no effect
	}))
	_, err = get(ctx, s, records.Rooms, room("after").Name)
	require.NoError(t, err)
}

// eachItsOwn: in a group, an update's error undoes that update only.
func eachItsOwn(t *testing.T, s records.DB) {
	ctx := t.Context()
	const n = 120
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() {
			errs[i] = s.Update(ctx, func(tx records.Tx) error {
				if err := full(ctx, tx, room(strconv.Itoa(i))); err != nil {
					return err
				}
				if i%3 == 0 {
					return fmt.Errorf("update %d: %w", i, errMine)
				}
				return nil
			})
		})
	}
	wg.Wait()
	want := 0
	for i, err := range errs {
		_, found := get(ctx, s, records.Rooms, room(strconv.Itoa(i)).Name)
		if i%3 == 0 {
			require.EqualError(t, err, fmt.Sprintf("update %d: %v", i, errMine))
			require.ErrorIs(t, found, records.ErrNotFound)
			continue
		}
		want++
		require.NoError(t, err)
		require.NoError(t, found)
	}
	subjects, ls := number(t, s)
	require.Len(t, subjects, want)
	require.Len(t, ls, want)
	seen := map[string]bool{}
	for _, l := range ls {
		require.False(t, seen[l.Subject])
		seen[l.Subject] = true
		require.Contains(t, subjects, l.Subject)
	}
}

// panicAndGoexit: neither breaks the group; both continue in the caller.
func panicAndGoexit(t *testing.T, s records.DB) {
	ctx := t.Context()
	var wg sync.WaitGroup
	var panics, exits, done atomic.Int32
	for i := range 30 {
		wg.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					panics.Add(1)
				}
			}()
			returned := false
			defer func() {
				if i%3 == 1 && !returned {
					exits.Add(1)
				}
			}()
			err := s.Update(ctx, func(tx records.Tx) error {
				if err := full(ctx, tx, room(strconv.Itoa(i))); err != nil {
					return err
				}
				switch i % 3 {
				case 0:
					panic("in fn")
				case 1:
					goexit()
				}
				return nil
			})
			returned = true
			if err == nil {
				done.Add(1)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 10, panics.Load())
	require.EqualValues(t, 10, exits.Load())
	require.EqualValues(t, 10, done.Load())
	subjects, ls := number(t, s)
	require.Len(t, subjects, 10)
	require.Len(t, ls, 10)
}

func contextEnds(t *testing.T, s records.DB) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	ran := false
	err := s.Update(ended, func(records.Tx) error { ran = true; return nil })
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, s.View(ended, func(records.Tx) error { ran = true; return nil }), context.Canceled)
	require.False(t, ran)

	// A caller that waits behind a slow update leaves: its function never runs
	// afterwards, and the slow update's group still commits.
	ctx, cancel := context.WithCancel(t.Context())
	inside, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		err := s.Update(ctx, func(tx records.Tx) error {
			select {
			case <-inside:
			default:
				close(inside)
			}
			<-release
			_, err := tx.Get(ctx, records.Rooms, "x") // its ctx has ended
			if !errors.Is(err, context.Canceled) {
				return fmt.Errorf("an ended context: Get returned %w", err)
			}
			return full(t.Context(), tx, room("slow"))
		})
		// Committed or cancelled, whichever it saw first.
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("slow update: %v", err)
		}
	})
	<-inside
	cancel()
	close(release)
	wg.Wait()
	require.NoError(t, s.Update(t.Context(), func(tx records.Tx) error { return full(t.Context(), tx, room("next")) }))
	_, err = get(t.Context(), s, records.Rooms, room("next").Name)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, err := get(t.Context(), s, records.Rooms, room("slow").Name)
		return err == nil
	}, waitFor, poll, "an update that was under way is committed")
}

// oneWinnerPerName: of many inserts of one name exactly one succeeds.
func oneWinnerPerName(t *testing.T, s records.DB) {
	ctx := t.Context()
	var wg sync.WaitGroup
	var won, lost atomic.Int32
	for i := range 80 {
		wg.Go(func() {
			err := s.Update(ctx, func(tx records.Tx) error { return full(ctx, tx, room(strconv.Itoa(i%8))) })
			switch {
			case err == nil:
				won.Add(1)
			case errors.Is(err, records.ErrExists):
				lost.Add(1)
			default:
				t.Errorf("insert: %v", err)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 8, won.Load())
	require.EqualValues(t, 72, lost.Load())
	subjects, ls := number(t, s)
	require.Len(t, subjects, 8)
	require.Len(t, ls, 8)
}

// lostUpdates: read, add one, write by version; a conflict is retried.
func lostUpdates(t *testing.T, s records.DB) {
	ctx := t.Context()
	names := []string{insert(t, s, room("a"))[0].Name, insert(t, s, room("b"))[0].Name}
	var wg sync.WaitGroup
	const writers, each = 16, 8
	for w := range writers {
		wg.Go(func() {
			for range each {
				for {
					err := s.Update(ctx, func(tx records.Tx) error {
						for i := range names { // half of them in the other order: deadlocks
							r, err := tx.Get(ctx, records.Rooms, names[(i+w)%2])
							if err != nil {
								return err
							}
							r.Body = fmt.Appendf(nil, `{"n":%d}`, r.Version)
							if _, err = tx.Update(ctx, r); err != nil {
								return err
							}
						}
						return nil
					})
					if err == nil {
						break
					}
					if !errors.Is(err, records.ErrConflict) {
						t.Errorf("update: %v", err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	for _, name := range names {
		r, err := get(ctx, s, records.Rooms, name)
		require.NoError(t, err)
		require.EqualValues(t, 1+writers*each, r.Version)
		equalJSON(t, fmt.Appendf(nil, `{"n":%d}`, writers*each), r.Body)
	}
}

// snapshot: a view does not see what commits after its first read.
func snapshot(t *testing.T, s records.DB) {
	ctx := t.Context()
	insert(t, s, room("a"))
	require.NoError(t, s.View(ctx, func(tx records.Tx) error {
		q := records.Query{Kind: records.Rooms}
		before, err := tx.List(ctx, q)
		require.NoError(t, err)
		require.Len(t, before, 1)
		insert(t, s, room("b"))
		after, err := tx.List(ctx, q)
		require.NoError(t, err)
		require.Equal(t, before, after)

		_, err = tx.Insert(ctx, room("c"))
		require.Error(t, err, "a view does not write")
		require.Error(t, tx.Leaf(ctx, leafOf("s", "b")))
		require.Error(t, tx.Event(ctx, eventOf("acme", "s")))
		require.Error(t, tx.Delete(ctx, records.Rooms, room("a").Name, 0))
		return nil
	}))
	require.Same(t, errMine, s.View(ctx, func(records.Tx) error { return errMine }))
	_, err := get(ctx, s, records.Rooms, room("b").Name)
	require.NoError(t, err)
	_, err = get(ctx, s, records.Rooms, room("c").Name)
	require.ErrorIs(t, err, records.ErrNotFound)
	require.NoError(t, s.Ping(ctx))
}

func transactionsEnd(t *testing.T, s records.DB) {
	ctx := t.Context()
	var kept, seen records.Tx
	require.NoError(t, s.Update(ctx, func(tx records.Tx) error { kept = tx; return nil }))
	require.NoError(t, s.View(ctx, func(tx records.Tx) error { seen = tx; return nil }))
	for _, tx := range []records.Tx{kept, seen} {
		_, err := tx.Get(ctx, records.Rooms, "x")
		require.Error(t, err)
		require.NotErrorIs(t, err, records.ErrNotFound)
		require.Error(t, tx.Leaf(ctx, leafOf("s", "b")))
	}
}

func closed(t *testing.T, s records.DB) {
	ctx := t.Context()
	var wg sync.WaitGroup
	acked := make([]bool, 50)
	for i := range acked {
		wg.Go(func() {
			err := s.Update(ctx, func(tx records.Tx) error { return full(ctx, tx, room(strconv.Itoa(i))) })
			acked[i] = err == nil
			if err != nil && !errors.Is(err, records.ErrClosed) {
				t.Errorf("update while closing: %v", err)
			}
		})
	}
	require.NoError(t, s.Close())
	wg.Wait()
	require.ErrorIs(t, s.Update(ctx, func(records.Tx) error { return nil }), records.ErrClosed)
	require.ErrorIs(t, s.View(ctx, func(records.Tx) error { return nil }), records.ErrClosed)
	require.ErrorIs(t, s.Ping(ctx), records.ErrClosed)
	require.NoError(t, s.Close(), "closing again is no error")
}
