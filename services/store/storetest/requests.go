package storetest

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/store"
)

// create is the shape of every idempotent Create: replay, else do and remember.
func create(ctx context.Context, s store.Store, key store.RequestKey, r store.Record, answer string) (string, error) {
	var got string
	err := s.Update(ctx, func(tx store.Tx) error {
		old, err := tx.Replay(ctx, key)
		if err != nil {
			return err
		}
		if old != nil {
			got = string(old)
			return nil
		}
		if err := full(ctx, tx, r); err != nil {
			return err
		}
		got = answer
		return tx.Remember(ctx, key, []byte(answer))
	})
	return got, err
}

func replay(t *testing.T, s store.Store) {
	ctx := t.Context()
	got, err := create(ctx, s, keyOf("r1", "args"), room("a"), "first")
	require.NoError(t, err)
	require.Equal(t, "first", got)
	got, err = create(ctx, s, keyOf("r1", "args"), room("b"), "second")
	require.NoError(t, err)
	require.Equal(t, "first", got, "the first answer is replayed")
	_, err = create(ctx, s, keyOf("r1", "other args"), room("b"), "third")
	require.ErrorIs(t, err, store.ErrRequestReused)
	_, err = get(ctx, s, store.Rooms, room("b").Name)
	require.ErrorIs(t, err, store.ErrNotFound)

	for _, change := range []func(*store.RequestKey){
		func(k *store.RequestKey) { k.Org = "other" },
		func(k *store.RequestKey) { k.Method = "/other" },
		func(k *store.RequestKey) { k.ID = "r2" },
	} {
		k := keyOf("r1", "args")
		change(&k)
		require.NoError(t, s.View(ctx, func(tx store.Tx) error {
			old, err := tx.Replay(ctx, k)
			require.Nil(t, old)
			return err
		}))
	}

	// An answer goes with the transaction that it was given in.
	err = s.Update(ctx, func(tx store.Tx) error {
		require.NoError(t, tx.Remember(ctx, keyOf("r3", "args"), []byte("never")))
		return errMine
	})
	require.Same(t, errMine, err)
	got, err = create(ctx, s, keyOf("r3", "args"), room("c"), "real")
	require.NoError(t, err)
	require.Equal(t, "real", got)

	// An empty answer is an answer.
	require.NoError(t, s.Update(ctx, func(tx store.Tx) error { return tx.Remember(ctx, keyOf("r4", "args"), nil) }))
	require.NoError(t, s.View(ctx, func(tx store.Tx) error {
		old, err := tx.Replay(ctx, keyOf("r4", "args"))
		require.NotNil(t, old)
		require.Empty(t, old)
		return err
	}))
	// Remembering over an answer, without asking for it, is refused.
	err = s.Update(ctx, func(tx store.Tx) error { return tx.Remember(ctx, keyOf("r4", "args"), []byte("x")) })
	require.ErrorIs(t, err, store.ErrExists)
}

// replayConcurrently: whoever comes second sees the first's answer.
func replayConcurrently(t *testing.T, s store.Store) {
	ctx := t.Context()
	var wg sync.WaitGroup
	const n = 96
	answers, errs := make([]string, n), make([]error, n)
	for i := range n {
		wg.Go(func() {
			id := strconv.Itoa(i % 6)
			// Each try makes a room of its own: only one of them may stay.
			answers[i], errs[i] = create(ctx, s, keyOf(id, id), room(strconv.Itoa(i)), strconv.Itoa(i))
		})
	}
	wg.Wait()
	for i := range n {
		require.NoError(t, errs[i])
		require.Equal(t, answers[i%6], answers[i], "request %d", i)
		_, err := get(ctx, s, store.Rooms, room(strconv.Itoa(i)).Name)
		if answers[i] == strconv.Itoa(i) {
			require.NoError(t, err)
		} else {
			require.True(t, errors.Is(err, store.ErrNotFound), "the loser's writes are gone")
		}
	}
	subjects, ls := number(t, s)
	require.Len(t, subjects, 6)
	require.Len(t, ls, 6)
}
