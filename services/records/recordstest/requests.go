package recordstest

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/records"
)

// create is what every idempotent Create does: replay, or do and remember.
func create(ctx context.Context, s records.DB, key records.RequestKey, r records.Record, answer string) (string, error) {
	var got string
	err := s.Update(ctx, func(tx records.Tx) error {
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

func replay(t *testing.T, s records.DB) {
	ctx := t.Context()
	got, err := create(ctx, s, keyOf("r1", "args"), room("a"), "first")
	require.NoError(t, err)
	require.Equal(t, "first", got)
	got, err = create(ctx, s, keyOf("r1", "args"), room("b"), "second")
	require.NoError(t, err)
	require.Equal(t, "first", got, "the first answer is replayed")
	_, err = create(ctx, s, keyOf("r1", "other args"), room("b"), "third")
	require.ErrorIs(t, err, records.ErrRequestReused)
	_, err = get(ctx, s, records.Rooms, room("b").Name)
	require.ErrorIs(t, err, records.ErrNotFound)

	for _, change := range []func(*records.RequestKey){
		func(k *records.RequestKey) { k.Org = "other" },
		func(k *records.RequestKey) { k.Method = "/other" },
		func(k *records.RequestKey) { k.ID = "r2" },
	} {
		k := keyOf("r1", "args")
		change(&k)
		require.NoError(t, s.View(ctx, func(tx records.Tx) error {
			old, err := tx.Replay(ctx, k)
			require.Nil(t, old)
			return err
		}))
	}

	// An answer is undone with its transaction.
	err = s.Update(ctx, func(tx records.Tx) error {
		require.NoError(t, tx.Remember(ctx, keyOf("r3", "args"), []byte("never")))
		return errMine
	})
	require.Same(t, errMine, err)
	got, err = create(ctx, s, keyOf("r3", "args"), room("c"), "real")
	require.NoError(t, err)
	require.Equal(t, "real", got)

	// An empty answer is an answer.
	require.NoError(t, s.Update(ctx, func(tx records.Tx) error { return tx.Remember(ctx, keyOf("r4", "args"), nil) }))
	require.NoError(t, s.View(ctx, func(tx records.Tx) error {
		old, err := tx.Replay(ctx, keyOf("r4", "args"))
		require.NotNil(t, old)
		require.Empty(t, old)
		return err
	}))
	// An answer that was not replayed first cannot be replaced.
	err = s.Update(ctx, func(tx records.Tx) error { return tx.Remember(ctx, keyOf("r4", "args"), []byte("x")) })
	require.ErrorIs(t, err, records.ErrExists)
}

// replayConcurrently: the second caller gets the first one's answer.
func replayConcurrently(t *testing.T, s records.DB) {
	ctx := t.Context()
	var wg sync.WaitGroup
	const n = 96
	answers, errs := make([]string, n), make([]error, n)
	for i := range n {
		wg.Go(func() {
			id := strconv.Itoa(i % 6)
			// Each try makes another room: only one of them may remain.
			answers[i], errs[i] = create(ctx, s, keyOf(id, id), room(strconv.Itoa(i)), strconv.Itoa(i))
		})
	}
	wg.Wait()
	for i := range n {
		require.NoError(t, errs[i])
		require.Equal(t, answers[i%6], answers[i], "request %d", i)
		_, err := get(ctx, s, records.Rooms, room(strconv.Itoa(i)).Name)
		if answers[i] == strconv.Itoa(i) {
			require.NoError(t, err)
		} else {
			require.True(t, errors.Is(err, records.ErrNotFound), "the loser's writes are gone")
		}
	}
	subjects, ls := number(t, s)
	require.Len(t, subjects, 6)
	require.Len(t, ls, 6)
}
