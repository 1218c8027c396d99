package verify_test

import (
	"context"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/verify"
)

// bigBag is a bag of about 2*mib MiB in a file.
func bigBag(t testing.TB, mib int) (path, key string) {
	t.Helper()
	r := rig(t, 21)
	rec := r.Record(t, "0198-big", []string{"video"}, mib/4, 4<<20-1<<14)
	path = filepath.Join(t.TempDir(), "bag.tar")
	f, err := os.Create(path)
	require.NoError(t, err)
	require.NoError(t, r.ExportTo(t.Context(), rec, f))
	require.NoError(t, f.Close())
	return path, r.Ledger.VerifierKey()
}

// BenchmarkVerify compares verifying with hashing the same file once, in one
// process and one run: "x_sha256" is the ratio of the speeds.
func BenchmarkVerify(b *testing.B) {
	path, key := bigBag(b, 192)
	st, err := os.Stat(path)
	require.NoError(b, err)
	b.SetBytes(st.Size())
	var plain, ours time.Duration
	for b.Loop() {
		began := time.Now()
		f, err := os.Open(path)
		require.NoError(b, err)
		_, err = io.CopyBuffer(struct{ io.Writer }{sha256.New()}, struct{ io.Reader }{f}, make([]byte, 256<<10))
		require.NoError(b, err)
		require.NoError(b, f.Close())
		plain += time.Since(began)

		began = time.Now()
		r, err := verify.Verify(context.Background(), verify.Config{Bag: path, Key: key})
		require.NoError(b, err)
		require.True(b, r.OK, text(r))
		ours += time.Since(began)
	}
	b.ReportMetric(float64(plain)/float64(ours), "x_sha256")
	b.ReportMetric(float64(st.Size())*float64(b.N)/ours.Seconds()/1e6, "verify_MB/s")
}

// Memory does not grow with what was recorded.
func TestVerifyingNeedsLittleMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 300 MB")
	}
	path, key := bigBag(t, 128)
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	var peak atomic.Uint64
	r, err := verify.Verify(t.Context(), verify.Config{Bag: path, Key: key, Progress: func(int64) {
		runtime.ReadMemStats(&now)
		peak.Store(max(peak.Load(), now.HeapAlloc))
	}})
	require.NoError(t, err)
	require.True(t, r.OK, text(r))
	require.Less(t, peak.Load()-min(before.HeapAlloc, peak.Load()), uint64(48<<20))
}
