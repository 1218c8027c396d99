package capture_test

import (
	"crypto/sha256"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/openova-io/bp-relay/services/capture"
)

// cpu is the CPU time that this process has used, in seconds: user and system.
func cpu(b *testing.B) float64 {
	b.Helper()
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// threadCPU is the CPU time that the calling thread has used, in seconds.
func threadCPU(b *testing.B) float64 {
	b.Helper()
	var u unix.Rusage
	require.NoError(b, unix.Getrusage(unix.RUSAGE_THREAD, &u))
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

// commands is the CPU time of the commands age and sha256sum, 0 if they are not
// installed.
func commands(b *testing.B, in, out string) float64 {
	b.Helper()
	var sum time.Duration
	for _, argv := range [][]string{{"age", "-r", recipient, "-o", out, in}, {"sha256sum", in}} {
		cmd := exec.CommandContext(b.Context(), argv[0], argv[1:]...)
		if cmd.Err != nil {
			return 0
		}
		require.NoError(b, cmd.Run())
		sum += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	return sum.Seconds()
}

// recipient is a key whose identity is discarded.
const recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"

// BenchmarkStored measures all from Append to a sealed capture against
// SeaweedFS, in CPU seconds of this process per GiB: in total (cpu-s/GiB), and
// in the thread that calls Append, for which a session waits
// (append-cpu-s/GiB). In the same run it measures, on the same bytes, the
// commands age and sha256sum (commands-cpu-s/GiB), and the same work in Go in
// this process, whose SHA-256 uses CPU instructions (inprocess-cpu-s/GiB). The
// ratios compare the background work with each. SeaweedFS's time is excluded.
//
//	go test -run '^$' -bench Stored -benchtime 3x ./capture
func BenchmarkStored(b *testing.B) {
	const size = 256 << 20
	r := newRig(b)
	p := input(40, size)
	in := filepath.Join(b.TempDir(), "in")
	require.NoError(b, os.WriteFile(in, p, 0o600))
	m, _ := r.manager()
	var ours, appends, theirs, cmds float64
	runtime.LockOSThread() // so that Append's CPU time can be measured apart
	defer runtime.UnlockOSThread()
	b.ResetTimer()
	for b.Loop() {
		begin := cpu(b)
		ageAndSum(b, in, in+".age")
		theirs += cpu(b) - begin
		cmds += commands(b, in, in+".age")
		require.NoError(b, os.Remove(in+".age"))

		c, err := m.Open(b.Context(), meta(capture.Required))
		require.NoError(b, err)
		s, err := c.Stream(b.Context(), video)
		require.NoError(b, err)
		begin = cpu(b)
		thread := threadCPU(b)
		for at := 0; at < size; at += 64 << 10 {
			if err := s.Append(p[at : at+64<<10]); err != nil {
				b.Fatal(err)
			}
		}
		appends += threadCPU(b) - thread
		_, err = c.Seal(b.Context())
		require.NoError(b, err)
		ours += cpu(b) - begin
	}
	gib := float64(b.N) * size / (1 << 30)
	b.SetBytes(size)
	b.ReportMetric(ours/gib, "cpu-s/GiB")
	b.ReportMetric(appends/gib, "append-cpu-s/GiB")
	b.ReportMetric(theirs/gib, "inprocess-cpu-s/GiB")
	b.ReportMetric((ours-appends)/theirs, "ratio-inprocess")
	if cmds > 0 {
		b.ReportMetric(cmds/gib, "commands-cpu-s/GiB")
		b.ReportMetric((ours-appends)/cmds, "ratio-commands")
	}
}

// BenchmarkAppend is one append of 64 KiB while the store is unreachable.
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
