package recordstest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/records"
)

// Load writes records, each with its event and leaf, from several goroutines
// until ctx ends or each has written limit of them (0: no limit). Every eighth
// function fails after it has written. After each Update, acked is called if it
// returned nil and failed if it returned an error that is not the function's own,
// by one goroutine at a time.
func Load(ctx context.Context, s records.DB, prefix string, writers, limit int, acked func(name string), failed func(error)) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	for w := range writers {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil && (limit == 0 || i < limit); i++ {
				r := room(fmt.Sprintf("%s-%d-%d", prefix, w, i))
				err := s.Update(ctx, func(tx records.Tx) error {
					if err := full(ctx, tx, r); err != nil {
						return err
					}
					if i%8 == 7 {
						return errMine
					}
					return nil
				})
				mu.Lock()
				switch {
				case err == nil:
					acked(r.Name)
				case !errors.Is(err, errMine):
					failed(err)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// CheckAcked checks the records after a fault: every acknowledged record exists,
// each record has exactly one event and one leaf, and no event or leaf lacks its
// record.
func CheckAcked(t *testing.T, s records.DB, acked []string) {
	t.Helper()
	subjects, ls := number(t, s)
	checkTree(t, s)
	there := map[string]int{}
	for after := ""; ; {
		var page []records.Record
		require.NoError(t, s.View(t.Context(), func(tx records.Tx) (err error) {
			page, err = tx.List(t.Context(), records.Query{Kind: records.Rooms, Org: "acme", After: after, Limit: 1000})
			return err
		}))
		if len(page) == 0 {
			break
		}
		for _, r := range page {
			there[r.Name] = 0
		}
		after = page[len(page)-1].Name
	}
	for _, name := range acked {
		require.Contains(t, there, name, "acknowledged and lost")
	}
	require.Len(t, subjects, len(there), "one event for each record")
	require.Len(t, ls, len(there), "one leaf for each record")
	for i := range subjects {
		there[subjects[i]]++
		there[ls[i].Subject] += 1 << 20
	}
	for name, n := range there {
		require.Equal(t, 1<<20+1, n, "%s has %d leaves and %d events", name, n>>20, n&(1<<20-1))
	}
	t.Logf("%d acknowledged, %d there", len(acked), len(there))
}

// Outcome checks one Update whose commit failed: it returned an error, the
// function was not run again, the write is complete or absent as happened says,
// and the caller's retry under the same request id leaves exactly one. fault arms
// the failure of the next commit.
func Outcome(t *testing.T, s records.DB, happened bool, fault func()) {
	ctx := t.Context()
	for i, write := range []func(tx records.Tx, l records.Leaf) error{
		func(tx records.Tx, l records.Leaf) error { return tx.Leaf(ctx, l) },
		func(tx records.Tx, l records.Leaf) error {
			if _, err := tx.Insert(ctx, room(l.ID)); err != nil {
				return err
			}
			return tx.Leaf(ctx, l)
		},
	} {
		key, l := keyOf(fmt.Sprint(i), "args"), leafOf("s", fmt.Sprint("outcome ", i))
		runs := 0
		update := func() error {
			return s.Update(ctx, func(tx records.Tx) error {
				runs++
				old, err := tx.Replay(ctx, key)
				if err != nil || old != nil {
					return err
				}
				if err := write(tx, l); err != nil {
					return err
				}
				return tx.Remember(ctx, key, []byte("answer"))
			})
		}
		fault()
		err := update()
		require.Error(t, err, "a commit without an answer is not a success")
		require.Equal(t, 1, runs, "what may have happened is not done again")
		_, err = s.Log().LeafByID(ctx, l.ID)
		if happened {
			require.NoError(t, err, "failed, but it did happen")
		} else {
			require.ErrorIs(t, err, records.ErrNotFound, "failed and lost")
		}
		require.NoError(t, update(), "the caller's retry")
		growAll(t, s, 1)
		ls, err := s.Log().LeavesOf(ctx, "acme", "s", -1, 100)
		require.NoError(t, err)
		require.Len(t, ls, i+1, "exactly once")
		require.Equal(t, l.ID, ls[i].ID)
		if i == 1 {
			_, err = get(ctx, s, records.Rooms, room(l.ID).Name)
			require.NoError(t, err)
		}
	}
}

// Clock is a clock that a test moves.
type Clock struct{ offset atomic.Int64 }

// Now returns the clock's time.
func (c *Clock) Now() time.Time { return time.Now().Add(time.Duration(c.offset.Load())) }

// Window checks the 24 h for which answers are remembered. c is the database's
// clock, clean does the janitor's work, and count counts the kept answers.
func Window(t *testing.T, s records.DB, c *Clock, clean func() error, count func() int) {
	ctx := t.Context()
	got, err := create(ctx, s, keyOf("old", "args"), room("a"), "first")
	require.NoError(t, err)
	require.Equal(t, "first", got)
	require.NoError(t, s.Update(ctx, func(tx records.Tx) error { // more than one of the janitor's batches
		for i := range 1500 {
			if err := tx.Remember(ctx, keyOf(fmt.Sprint("old", i), "args"), nil); err != nil {
				return err
			}
		}
		return nil
	}))
	c.offset.Add(int64(24*time.Hour - time.Minute))
	got, err = create(ctx, s, keyOf("old", "args"), room("b"), "second")
	require.NoError(t, err)
	require.Equal(t, "first", got, "within the window")
	require.NoError(t, clean())
	require.Equal(t, 1501, count(), "nothing has expired")
	c.offset.Add(int64(2 * time.Minute))
	got, err = create(ctx, s, keyOf("old", "other args"), room("b"), "second")
	require.NoError(t, err)
	require.Equal(t, "second", got, "after the window the id is free")
	require.NoError(t, clean())
	require.Equal(t, 1, count())
	got, err = create(ctx, s, keyOf("old", "other args"), room("c"), "third")
	require.NoError(t, err)
	require.Equal(t, "second", got)
}
