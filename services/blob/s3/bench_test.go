package s3_test

import (
	"encoding/binary"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/blob"
	"github.com/openova-io/bp-relay/services/blob/blobtest"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
)

// BenchmarkStore measures one segment of 1 MiB against a real SeaweedFS on this
// machine, whose work is part of the time: Put looks, writes and checks the ETag;
// Get is the read-back.
func BenchmarkStore(b *testing.B) {
	w := weed{S3: stacktest.SeaweedFS(b, bucket)}
	s := w.client(b, w.Endpoint)
	_, err := blob.Probe(b.Context(), s, bucket)
	require.NoError(b, err)
	body := blobtest.Bytes(1, 1<<20)
	n := uint64(0)
	b.Run("Put1MiB", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			n++
			binary.BigEndian.PutUint64(body, n) // a new object each time
			require.NoError(b, s.Put(b.Context(), bucket, blobtest.Key("bench/", body), body))
		}
	})
	key := blobtest.Key("bench/get/", body)
	require.NoError(b, s.Put(b.Context(), bucket, key, body))
	b.Run("Get1MiB", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			r, _, err := s.Get(b.Context(), bucket, key)
			require.NoError(b, err)
			_, err = io.Copy(io.Discard, r)
			require.NoError(b, err)
			require.NoError(b, r.Close())
		}
	})
}
