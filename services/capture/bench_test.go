package capture_test

import (
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/capture"
)

// cpu is the CPU time that this process has used, in seconds: user and system.
func cpu(b *testing.B) float64 {
	b.Helper()
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// ageAndSum is what `age -r ... < in > out` and `sha256sum in` do, in this
// process: the yardstick.
func ageAndSum(b *testing.B, in, out string) {
	b.Helper()
	id, err := age.GenerateHybridIdentity()
	require.NoError(b, err)
	src, err := os.Open(in)
	require.NoError(b, err)
	defer func() { _ = src.Close() }()
	dst, err := os.Create(out)
	require.NoError(b, err)
	defer func() { _ = dst.Close() }()
	w, err := age.Encrypt(dst, id.Recipient())
	require.NoError(b, err)
	_, err = io.Copy(w, src)
	require.NoError(b, err)
	require.NoError(b, w.Close())
	_, err = src.Seek(0, io.SeekStart)
	require.NoError(b, err)
	_, err = io.Copy(sha256.New(), src)
	require.NoError(b, err)
}

// BenchmarkStored is everything from Append to sealed against SeaweedFS: the
// CPU time of this process per GiB (cpu-s/GiB), the same of age and sha256 on
// the same bytes in the same run (age-cpu-s/GiB), and their ratio. SeaweedFS's
// own CPU time is not in it. "append" is the part that a session waits for.
//
//	go test -run '^$' -bench Stored -benchtime 3x ./capture
func BenchmarkStored(b *testing.B) {
	const size = 256 << 20
	r := newRig(b)
	p := input(40, size)
	in := filepath.Join(b.TempDir(), "in")
	require.NoError(b, os.WriteFile(in, p, 0o600))
	m, _ := r.manager()
	var ours, appends, theirs float64
	b.ResetTimer()
	for b.Loop() {
		begin := cpu(b)
		ageAndSum(b, in, in+".age")
		theirs += cpu(b) - begin

		c, err := m.Open(b.Context(), meta(capture.Required))
		require.NoError(b, err)
		s, err := c.Stream(b.Context(), video)
		require.NoError(b, err)
		begin = cpu(b)
		for at := 0; at < size; at += 64 << 10 {
			if err := s.Append(p[at : at+64<<10]); err != nil {
				b.Fatal(err)
			}
		}
		appends += cpu(b) - begin
		_, err = c.Seal(b.Context())
		require.NoError(b, err)
		ours += cpu(b) - begin
	}
	gib := float64(b.N) * size / (1 << 30)
	b.SetBytes(size)
	b.ReportMetric(ours/gib, "cpu-s/GiB")
	b.ReportMetric(theirs/gib, "age-cpu-s/GiB")
	b.ReportMetric(appends/gib, "append-cpu-s/GiB")
	b.ReportMetric(ours/theirs, "ratio")
}

// BenchmarkAppend is one append of 64 KiB, with the store away.
func BenchmarkAppend(b *testing.B) {
	r := newRig(b)
	m, _ := r.manager(func(c *capture.Config) { c.Blob, c.MaxSpool = down(r.blob), 1<<40 })
	_, ss := open(b, m, meta(capture.Required), video)
	p := input(41, 64<<10)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		if err := ss[0].Append(p); err != nil {
			b.Fatal(err)
		}
	}
}
