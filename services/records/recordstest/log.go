package recordstest

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/openova-io/bp-relay/services/records"
)

const (
	waitFor = 20 * time.Second
	poll    = 10 * time.Millisecond
)

func goexit() { runtime.Goexit() }

func growAll(t *testing.T, s records.DB, fence int64) {
	t.Helper()
	for {
		n, err := s.Log().Grow(t.Context(), fence, 100, build)
		require.NoError(t, err)
		if n == 0 {
			return
		}
	}
}

func addLeaves(t *testing.T, s records.DB, bodies ...string) {
	t.Helper()
	for _, b := range bodies {
		require.NoError(t, s.Update(t.Context(), func(tx records.Tx) error { return tx.Leaf(t.Context(), leafOf("s", b)) }))
	}
}

func grow(t *testing.T, s records.DB) {
	ctx := t.Context()
	cp, err := s.Log().Checkpoint(ctx)
	require.NoError(t, err)
	require.Equal(t, records.Checkpoint{}, cp, "an empty log")
	n, err := s.Log().Grow(ctx, 1, 10, func(records.Checkpoint, []records.Leaf, tlog.HashReader) ([]tlog.Hash, records.Checkpoint, error) {
		t.Error("build was called for nothing")
		return nil, records.Checkpoint{}, errMine
	})
	require.NoError(t, err)
	require.Zero(t, n)

	addLeaves(t, s, "a", "b", "c", "d", "e")
	for _, want := range []int{2, 2, 1, 0} {
		n, err := s.Log().Grow(ctx, 1, 2, func(old records.Checkpoint, ls []records.Leaf, hr tlog.HashReader) ([]tlog.Hash, records.Checkpoint, error) {
			for i, l := range ls {
				require.EqualValues(t, old.Size+int64(i), l.Index)
				require.Equal(t, "opening of "+string(l.Body), string(l.Opening))
			}
			return build(old, ls, hr)
		})
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
	ls := checkTree(t, s)
	for i, b := range []string{"a", "b", "c", "d", "e"} {
		require.Equal(t, b, string(ls[i].Body), "commit order")
	}
	cp, err = s.Log().Checkpoint(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 5, cp.Size)
	require.Equal(t, "note of 5", string(cp.Note))
	require.EqualValues(t, 1, cp.Fence)
}

func growFails(t *testing.T, s records.DB) {
	ctx := t.Context()
	addLeaves(t, s, "a", "b", "c")
	require.NoError(t, errOf(s.Log().Grow(ctx, 1, 1, build)))
	before, err := s.Log().Checkpoint(ctx)
	require.NoError(t, err)
	for what, bad := range map[string]func(records.Checkpoint, []records.Leaf, tlog.HashReader) ([]tlog.Hash, records.Checkpoint, error){
		"error": func(records.Checkpoint, []records.Leaf, tlog.HashReader) ([]tlog.Hash, records.Checkpoint, error) {
			return nil, records.Checkpoint{}, errMine
		},
		"size": func(old records.Checkpoint, ls []records.Leaf, hr tlog.HashReader) ([]tlog.Hash, records.Checkpoint, error) {
			hs, cp, err := build(old, ls, hr)
			cp.Size++
			return hs, cp, err
		},
		"hashes": func(old records.Checkpoint, ls []records.Leaf, hr tlog.HashReader) ([]tlog.Hash, records.Checkpoint, error) {
			hs, cp, err := build(old, ls, hr)
			return hs[1:], cp, err
		},
	} {
		require.Error(t, errOf(s.Log().Grow(ctx, 1, 10, bad)), what)
		after, err := s.Log().Checkpoint(ctx)
		require.NoError(t, err)
		require.Equal(t, before, after, what)
		ls, err := s.Log().LeavesOf(ctx, "acme", "s", -1, 10)
		require.NoError(t, err)
		require.Equal(t, []int64{0, -1, -1}, []int64{ls[0].Index, ls[1].Index, ls[2].Index}, what)
	}
	growAll(t, s, 1)
	require.Len(t, checkTree(t, s), 3)
}

func errOf(_ int, err error) error { return err }

// growConcurrently: writers and two sequencers of the same lease at once.
func growConcurrently(t *testing.T, s records.DB) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	const writers, each = 24, 25
	var writing, growing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range each {
				err := s.Update(ctx, func(tx records.Tx) error {
					if err := tx.Leaf(ctx, leafOf("w"+strconv.Itoa(w), fmt.Sprintf("%d/%d/a", w, i))); err != nil {
						return err
					}
					return tx.Leaf(ctx, leafOf("w"+strconv.Itoa(w), fmt.Sprintf("%d/%d/b", w, i)))
				})
				if err != nil {
					t.Errorf("leaf: %v", err)
				}
			}
		})
	}
	var numbered [2]int
	done := make(chan struct{})
	for g := range numbered {
		growing.Go(func() {
			for last := false; ; {
				n, err := s.Log().Grow(ctx, 1, 64, build)
				if err != nil {
					t.Errorf("grow: %v", err)
					return
				}
				numbered[g] += n
				if n > 0 {
					continue
				}
				if last {
					return
				}
				select {
				case <-done:
					last = true
				case <-time.After(time.Millisecond):
				}
			}
		})
	}
	writing.Wait()
	close(done)
	growing.Wait()
	require.Equal(t, writers*each*2, numbered[0]+numbered[1], "each leaf is numbered once")
	ls := checkTree(t, s)
	require.Len(t, ls, writers*each*2)
	next := map[string]int{}
	for _, l := range ls { // a writer's leaves are in its commit order
		i := next[l.Subject]
		next[l.Subject]++
		want := fmt.Sprintf("%s/%d/%s", l.Subject[1:], i/2, []string{"a", "b"}[i%2])
		require.Equal(t, want, string(l.Body))
	}
}

func fences(t *testing.T, s records.DB) {
	ctx := t.Context()
	addLeaves(t, s, "a", "b")
	require.NoError(t, s.Update(ctx, func(tx records.Tx) error { return tx.Event(ctx, eventOf("acme", "s")) }))
	require.NoError(t, errOf(s.Log().Grow(ctx, 5, 1, build)))
	fenced := func(fence int64) {
		t.Helper()
		before, err := s.Log().Checkpoint(ctx)
		require.NoError(t, err)
		require.ErrorIs(t, errOf(s.Log().Grow(ctx, fence, 10, build)), records.ErrFenced)
		require.ErrorIs(t, errOf(s.Log().NumberEvents(ctx, fence, 10)), records.ErrFenced)
		require.ErrorIs(t, s.Log().Published(ctx, fence, 1), records.ErrFenced)
		after, err := s.Log().Checkpoint(ctx)
		require.NoError(t, err)
		require.Equal(t, before, after)
		es, err := s.Log().Events(ctx, "acme", 0, 10)
		require.NoError(t, err)
		require.Empty(t, es)
	}
	fenced(4)
	growAll(t, s, 7) // a call without work also raises the fence
	growAll(t, s, 8)
	fenced(7)

	// The newer holder writes while the older one builds.
	addLeaves(t, s, "c")
	_, err := s.Log().Grow(ctx, 8, 10, func(old records.Checkpoint, ls []records.Leaf, hr tlog.HashReader) ([]tlog.Hash, records.Checkpoint, error) {
		_, err := s.Log().Grow(ctx, 9, 10, build)
		require.NoError(t, err)
		return build(old, ls, hr)
	})
	require.ErrorIs(t, err, records.ErrFenced)
	fenced(8)
	n, err := s.Log().NumberEvents(ctx, 9, 10)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Len(t, checkTree(t, s), 3)
}

func published(t *testing.T, s records.DB) {
	ctx := t.Context()
	addLeaves(t, s, "a", "b", "c")
	growAll(t, s, 1)
	at := func() int64 {
		cp, err := s.Log().Checkpoint(ctx)
		require.NoError(t, err)
		return cp.Published
	}
	require.Zero(t, at())
	require.NoError(t, s.Log().Published(ctx, 1, 2))
	require.EqualValues(t, 2, at())
	require.NoError(t, s.Log().Published(ctx, 1, 1), "an answer that comes late")
	require.EqualValues(t, 2, at(), "does not lead back")
	require.ErrorIs(t, s.Log().Published(ctx, 1, 4), records.ErrInvalid)
	addLeaves(t, s, "d")
	growAll(t, s, 1)
	require.EqualValues(t, 2, at(), "Grow leaves it alone")
}

func leaves(t *testing.T, s records.DB) {
	ctx := t.Context()
	one, two := leafOf("x", "1"), leafOf("y", "2")
	one.Time = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.FixedZone("", 7200))
	two.Opening = nil
	for _, l := range []records.Leaf{one, two, leafOf("x", "3"), leafOf("x", "4")} {
		require.NoError(t, s.Update(ctx, func(tx records.Tx) error { return tx.Leaf(ctx, l) }))
	}
	require.NoError(t, errOf(s.Log().Grow(ctx, 1, 3, build)))
	got, err := s.Log().LeafByID(ctx, one.ID)
	require.NoError(t, err)
	want := one
	want.Time = time.Date(2026, 3, 1, 10, 0, 0, 123456000, time.UTC)
	require.Equal(t, want, got)
	got, err = s.Log().LeafByID(ctx, two.ID)
	require.NoError(t, err)
	require.EqualValues(t, 1, got.Index)
	require.Empty(t, got.Opening)
	_, err = s.Log().LeafByID(ctx, "nobody")
	require.ErrorIs(t, err, records.ErrNotFound)

	of := func(org, subject string, after int64, limit int) (bodies string) {
		ls, err := s.Log().LeavesOf(ctx, org, subject, after, limit)
		require.NoError(t, err)
		for _, l := range ls {
			bodies += fmt.Sprintf("%s@%d ", l.Body, l.Index)
		}
		return bodies
	}
	require.Equal(t, "1@0 3@2 4@-1 ", of("acme", "x", -1, 10))
	require.Equal(t, "3@2 4@-1 ", of("acme", "x", 0, 10))
	require.Equal(t, "1@0 3@2 ", of("acme", "x", -1, 2))
	require.Empty(t, of("other", "x", -1, 10))
	require.Equal(t, "2@1 ", of("acme", "y", -1, 10))
	ls, err := s.Log().Leaves(ctx, 1, 3)
	require.NoError(t, err)
	require.Len(t, ls, 2)
	require.Equal(t, "2", string(ls[0].Body))
}

func hashes(t *testing.T, s records.DB) {
	const n = 300
	var bodies []string
	for i := range n {
		bodies = append(bodies, strconv.Itoa(i))
	}
	require.NoError(t, s.Update(t.Context(), func(tx records.Tx) error {
		for _, b := range bodies {
			if err := tx.Leaf(t.Context(), leafOf("s", b)); err != nil {
				return err
			}
		}
		return nil
	}))
	growAll(t, s, 1)
	ls := checkTree(t, s)
	require.Len(t, ls, n)
	for i, b := range bodies {
		require.Equal(t, b, string(ls[i].Body), "the order within a transaction")
	}
	hr := s.Log().Hashes(t.Context())
	three, err := hr.ReadHashes([]int64{7, 3, 7})
	require.NoError(t, err)
	require.Equal(t, three[0], three[2], "an index may be asked for twice")
	require.NotEqual(t, three[0], three[1])
	none, err := hr.ReadHashes(nil)
	require.NoError(t, err)
	require.Empty(t, none)
}

func duplicateLeaf(t *testing.T, s records.DB) {
	ctx := t.Context()
	l := leafOf("s", "once")
	var wg sync.WaitGroup
	errs := make([]error, 12)
	for i := range errs {
		wg.Go(func() {
			errs[i] = s.Update(ctx, func(tx records.Tx) error {
				if i%4 == 0 { // three of them use the same leaf
					return tx.Leaf(ctx, l)
				}
				return full(ctx, tx, room(strconv.Itoa(i)))
			})
		})
	}
	wg.Wait()
	ok := 0
	for i, err := range errs {
		if i%4 != 0 {
			require.NoError(t, err, "the others do not suffer")
			continue
		}
		if err == nil {
			ok++
			continue
		}
		require.ErrorIs(t, err, records.ErrExists)
	}
	require.Equal(t, 1, ok)
	subjects, ls := number(t, s)
	require.Len(t, subjects, 9)
	require.Len(t, ls, 10)
}
