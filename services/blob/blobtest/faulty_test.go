package blobtest_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/openova-io/bp-relay/services/blob"
	"github.com/openova-io/bp-relay/services/blob/blobtest"
	"github.com/openova-io/bp-relay/services/blob/s3"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const bucket = "faulty"

func TestFaulty(t *testing.T) {
	w := stacktest.SeaweedFS(t, bucket)
	real, err := s3.New(s3.Config{Endpoint: w.Endpoint, AccessKey: w.AccessKey, SecretKey: w.SecretKey})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, real.Close()) })

	t.Run("WithoutFaults", func(t *testing.T) { blobtest.Run(t, blobtest.NewFaulty(real), bucket) })

	full := errors.New("disk full")
	body := []byte("0123456789")
	for _, c := range []struct {
		name   string
		fault  blobtest.Fault
		err    error
		stored string // "" nothing
	}{
		{"FailBefore", blobtest.Fault{Kind: blobtest.FailBefore}, blob.ErrUnavailable, ""},
		{"FailBeforeWith", blobtest.Fault{Kind: blobtest.FailBefore, Err: full}, full, ""},
		{"FailAfter", blobtest.Fault{Kind: blobtest.FailAfter}, blob.ErrUnavailable, "0123456789"},
		{"LieLost", blobtest.Fault{Kind: blobtest.LieLost}, nil, ""},
		{"LieShort", blobtest.Fault{Kind: blobtest.LieShort, At: 4}, nil, "0123"},
		{"LieFlipped", blobtest.Fault{Kind: blobtest.LieFlipped, At: 4}, nil, "0123556789"},
		{"LieFlippedPastTheEnd", blobtest.Fault{Kind: blobtest.LieFlipped, At: 99}, nil, "0123456788"},
	} {
		t.Run("Put/"+c.name, func(t *testing.T) {
			c.fault.Op, c.fault.Key = blobtest.Put, "put-"
			f := blobtest.NewFaulty(real, c.fault)
			require.NoError(t, f.Put(t.Context(), bucket, "other/"+c.name, body), "other keys are not affected")
			err := f.Put(t.Context(), bucket, "put-"+c.name, body)
			require.ErrorIs(t, err, c.err)
			require.Equal(t, 1, f.Hits(c.fault.Kind))
			require.Equal(t, 2, f.Calls(blobtest.Put))
			if c.stored == "" {
				_, err := real.Stat(t.Context(), bucket, "put-"+c.name)
				require.ErrorIs(t, err, blob.ErrNotFound)
				return
			}
			require.Equal(t, c.stored, string(blobtest.ReadAll(t, real, bucket, "put-"+c.name)))
		})
	}
	require.Equal(t, "0123456789", string(body), "the caller's bytes are unchanged")

	require.NoError(t, real.Put(t.Context(), bucket, "get", body))
	for _, c := range []struct {
		name  string
		fault blobtest.Fault
		open  error
		read  error
		got   string
	}{
		{"FailBefore", blobtest.Fault{Kind: blobtest.FailBefore, Err: blob.ErrRecalling}, blob.ErrRecalling, nil, ""},
		{"Truncate", blobtest.Fault{Kind: blobtest.Truncate, At: 3}, nil, nil, "012"},
		{"BreakOff", blobtest.Fault{Kind: blobtest.BreakOff, At: 3}, nil, blob.ErrUnavailable, "012"},
		{"Flip", blobtest.Fault{Kind: blobtest.Flip, At: 0}, nil, nil, "1123456789"},
		{"Zero", blobtest.Fault{Kind: blobtest.Zero, At: 8}, nil, nil, "01234567\x00\x00"},
	} {
		t.Run("Get/"+c.name, func(t *testing.T) {
			c.fault.Op, c.fault.Skip, c.fault.Times = blobtest.Get, 1, 2
			f := blobtest.NewFaulty(real, c.fault)
			require.Equal(t, body, blobtest.ReadAll(t, f, bucket, "get"), "skipped")
			for range 2 {
				r, _, err := f.Get(t.Context(), bucket, "get")
				require.ErrorIs(t, err, c.open)
				if err != nil {
					continue
				}
				got, err := io.ReadAll(r)
				require.ErrorIs(t, err, c.read)
				require.Equal(t, c.got, string(got))
				require.NoError(t, r.Close())
			}
			require.Equal(t, body, blobtest.ReadAll(t, f, bucket, "get"), "used up")
		})
	}

	t.Run("Hang", func(t *testing.T) {
		f := blobtest.NewFaulty(real, blobtest.Fault{Kind: blobtest.Hang, Times: -1})
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("gone")
		cancel(gone)
		require.ErrorIs(t, f.Ping(ctx), gone)
		_, _, err := f.Get(ctx, bucket, "get")
		require.ErrorIs(t, err, gone)
		require.ErrorIs(t, f.Put(ctx, bucket, "k", nil), gone)
	})

	t.Run("OtherMethods", func(t *testing.T) {
		f := blobtest.NewFaulty(real,
			blobtest.Fault{Op: blobtest.Delete, Kind: blobtest.LieLost},
			blobtest.Fault{Op: blobtest.Stat, Kind: blobtest.Truncate, At: 4},
			blobtest.Fault{Op: blobtest.Stat, Kind: blobtest.LieLost},
			blobtest.Fault{Op: blobtest.List, Kind: blobtest.LieLost})
		require.NoError(t, f.Delete(t.Context(), bucket, "get"))
		obj, err := f.Stat(t.Context(), bucket, "get")
		require.NoError(t, err)
		require.EqualValues(t, 4, obj.Size)
		_, err = f.Stat(t.Context(), bucket, "get")
		require.ErrorIs(t, err, blob.ErrNotFound)
		obj, err = f.Stat(t.Context(), bucket, "get")
		require.NoError(t, err)
		require.EqualValues(t, 10, obj.Size)
		require.NoError(t, f.List(t.Context(), bucket, "get", func(blob.Object) error { return errors.New("not stale") }))
	})

	t.Run("FailAllAndRestore", func(t *testing.T) {
		f := blobtest.NewFaulty(real)
		f.FailAll(nil)
		require.ErrorIs(t, f.Ping(t.Context()), blob.ErrUnavailable)
		require.ErrorIs(t, f.Put(t.Context(), bucket, "away", nil), blob.ErrUnavailable)
		require.ErrorIs(t, f.EnsureBucket(t.Context(), bucket), blob.ErrUnavailable)
		f.Restore()
		require.NoError(t, f.Ping(t.Context()))
		require.NoError(t, f.Put(t.Context(), bucket, "away", nil))
	})

	t.Run("Concurrent", func(t *testing.T) {
		f := blobtest.NewFaulty(real, blobtest.Fault{Op: blobtest.Stat, Times: 10})
		var wg sync.WaitGroup
		failed := make([]bool, 40)
		for i := range failed {
			wg.Go(func() {
				_, err := f.Stat(t.Context(), bucket, "get")
				failed[i] = err != nil
			})
		}
		wg.Wait()
		n := 0
		for _, x := range failed {
			if x {
				n++
			}
		}
		require.Equal(t, 10, n, "exactly as many as the table says")
	})
}
