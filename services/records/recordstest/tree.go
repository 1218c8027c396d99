package recordstest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/openova-io/bp-relay/services/records"
)

// build is the sequencer's callback: a real tree over the leaves' bodies.
func build(old records.Checkpoint, ls []records.Leaf, hr tlog.HashReader) ([]tlog.Hash, records.Checkpoint, error) {
	var added []tlog.Hash
	first := tlog.StoredHashCount(old.Size)
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			if x >= first {
				out[i] = added[x-first]
				continue
			}
			h, err := hr.ReadHashes([]int64{x})
			if err != nil {
				return nil, err
			}
			out[i] = h[0]
		}
		return out, nil
	})
	for _, l := range ls {
		hs, err := tlog.StoredHashes(l.Index, l.Body, reader)
		if err != nil {
			return nil, records.Checkpoint{}, err
		}
		added = append(added, hs...)
	}
	size := old.Size + int64(len(ls))
	root, err := tlog.TreeHash(size, reader)
	return added, records.Checkpoint{Size: size, Root: root, Note: fmt.Appendf(nil, "note of %d", size)}, err
}

// checkTree recomputes the tree from the leaves and compares root and hashes.
func checkTree(t *testing.T, s records.DB) []records.Leaf {
	t.Helper()
	ctx := t.Context()
	cp, err := s.Log().Checkpoint(ctx)
	require.NoError(t, err)
	ls, err := s.Log().Leaves(ctx, 0, cp.Size)
	require.NoError(t, err)
	require.Len(t, ls, int(cp.Size))
	var all []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			out[i] = all[x]
		}
		return out, nil
	})
	for i, l := range ls {
		require.EqualValues(t, i, l.Index, "gapless")
		hs, err := tlog.StoredHashes(int64(i), l.Body, reader)
		require.NoError(t, err)
		all = append(all, hs...)
	}
	root, err := tlog.TreeHash(cp.Size, reader)
	require.NoError(t, err)
	require.Equal(t, root, cp.Root)
	indexes := make([]int64, len(all))
	for i := range indexes {
		indexes[i] = int64(i)
	}
	kept, err := s.Log().Hashes(ctx).ReadHashes(indexes)
	require.NoError(t, err)
	require.True(t, slices.Equal(all, kept), "stored hashes differ")
	_, err = s.Log().Hashes(ctx).ReadHashes([]int64{int64(len(all))})
	require.ErrorIs(t, err, records.ErrNotFound, "no hashes beyond the tree")
	return ls
}
