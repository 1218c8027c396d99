package probe_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/openova-io/bp-relay/loadtest/internal/probe"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// TestRunDelaySeesTheWaitOfEveryThread: four threads that share one processor
// wait three quarters of the time. The main thread alone, which
// /proc/self/schedstat covers, does not wait.
func TestRunDelaySeesTheWaitOfEveryThread(t *testing.T) {
	const threads = 4
	self, err := probe.StartSelf()
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range threads {
		wg.Go(func() {
			runtime.LockOSThread() // not unlocked: the thread stays pinned to its processor, so it must end
			var before, one unix.CPUSet
			require.NoError(t, unix.SchedGetaffinity(0, &before))
			for cpu := range 1024 {
				if before.IsSet(cpu) {
					one.Set(cpu)
					break
				}
			}
			if !assertNoError(t, unix.SchedSetaffinity(0, &one)) {
				return
			}
			for end := time.Now().Add(600 * time.Millisecond); time.Now().Before(end); {
			}
			_ = unix.SchedSetaffinity(0, &before)
			runtime.UnlockOSThread()
		})
	}
	wg.Wait()
	h, err := self.Stop()
	require.NoError(t, err)
	require.Greater(t, h.RunDelay, 0.5, "GOMAXPROCS %d", runtime.GOMAXPROCS(0))
	require.LessOrEqual(t, h.RunDelay, 1.0)
	require.Positive(t, h.CPUSeconds)
	require.Positive(t, h.Busy)
	require.GreaterOrEqual(t, h.Threads, 2)
	if _, err := os.Stat("/proc/pressure/cpu"); err == nil {
		require.NotNil(t, h.Pressure)
		require.Positive(t, *h.Pressure)
	}
	var out result.Self
	out.SendErrors = 7
	h.Fill(&out)
	require.Equal(t, h.RunDelay, out.RunDelay)
	require.Equal(t, h.Busy, out.Busy)
	require.EqualValues(t, 7, out.SendErrors, "other fields are kept")
}

func assertNoError(t *testing.T, err error) bool {
	if err != nil {
		t.Error(err)
	}
	return err == nil
}

func TestGCHasAShare(t *testing.T) {
	self, err := probe.StartSelf()
	require.NoError(t, err)
	keep := make([]*[4096]byte, 0, 8192)
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {
		if len(keep) == cap(keep) {
			keep = keep[:0]
			runtime.GC()
		}
		keep = append(keep, new([4096]byte))
	}
	h, err := self.Stop()
	require.NoError(t, err)
	require.Positive(t, h.GC)
	require.LessOrEqual(t, h.GC, 1.0)
	require.NotEmpty(t, keep)
}

// TestRcvbufErrorsAreCounted expects at least this process's errors; other
// processes in the same network namespace may add theirs.
func TestRcvbufErrorsAreCounted(t *testing.T) {
	self, err := probe.StartSelf()
	require.NoError(t, err)
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.SetReadBuffer(1))
	to, err := net.Dial("udp4", conn.LocalAddr().String())
	require.NoError(t, err)
	defer func() { _ = to.Close() }()
	for range 200 {
		_, err := to.Write(make([]byte, 1000))
		require.NoError(t, err)
	}
	own, err := probe.UDP(os.Getpid())
	require.NoError(t, err)
	h, err := self.Stop()
	require.NoError(t, err)
	require.Greater(t, own.Drops, int64(100))
	require.GreaterOrEqual(t, h.RcvbufErrors, own.Drops)
	require.GreaterOrEqual(t, h.InErrors, h.RcvbufErrors)
}

// TestThrottlingIsSeen makes a cgroup, which needs root and a writable
// hierarchy with the cpu controller. A child with a fifth of a processor
// watches itself.
func TestThrottlingIsSeen(t *testing.T) {
	group := makeQuota(t)
	k := start(t, "/proc/self/exe")
	require.NoError(t, os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(k.pid())), 0o600))
	var times int64
	var seconds, quota float64
	answer := k.do("watch 100")
	_, err := fmt.Sscan(answer, &times, &seconds, &quota)
	require.NoError(t, err, answer)
	require.Positive(t, times)
	require.Greater(t, seconds, 0.02)
	require.InDelta(t, 0.2, quota, 0.001)
}

// makeQuota makes a cgroup with 20 ms of CPU time in each 100 ms.
func makeQuota(t *testing.T) string {
	t.Helper()
	name := "probe-test-" + strconv.Itoa(os.Getpid())
	for _, form := range []struct {
		root  string
		files map[string]string
	}{
		{"/sys/fs/cgroup", map[string]string{"cpu.max": "20000 100000"}},
		{"/sys/fs/cgroup/cpu", map[string]string{"cpu.cfs_quota_us": "20000"}},
		{"/sys/fs/cgroup/cpu,cpuacct", map[string]string{"cpu.cfs_quota_us": "20000"}},
	} {
		group := filepath.Join(form.root, name)
		if os.Mkdir(group, 0o755) != nil {
			continue
		}
		ok := true
		for file, text := range form.files {
			if _, err := os.Stat(filepath.Join(group, file)); err != nil || os.WriteFile(filepath.Join(group, file), []byte(text), 0o600) != nil {
				ok = false
			}
		}
		if !ok {
			_ = os.Remove(group)
			continue
		}
		t.Cleanup(func() { _ = os.Remove(group) }) // its processes have ended: cleanups run in reverse order
		return group
	}
	t.Skip("needs root and a writable cgroup hierarchy with the cpu controller")
	return ""
}

func TestWarnings(t *testing.T) {
	good := probe.Tuning{
		Files: 1 << 20, ReceiveBuffer: 25 << 20, SendBuffer: 25 << 20, FirstPort: 1024, LastPort: 65535,
		Conntrack: 10, ConntrackMax: 1 << 20, Governors: []string{"performance"}, Cores: 4,
	}
	require.Empty(t, good.Warnings(1000))
	require.Empty(t, probe.Tuning{}.Warnings(1000), "no settings, no warnings")
	for name, c := range map[string]struct {
		change func(*probe.Tuning)
		want   string
	}{
		"files":     {func(t *probe.Tuning) { t.Files = 1024 }, "ulimit -n 4256"},
		"receive":   {func(t *probe.Tuning) { t.ReceiveBuffer = 212992 }, "sysctl -w net.core.rmem_max=4194304"},
		"send":      {func(t *probe.Tuning) { t.SendBuffer = 212992 }, "sysctl -w net.core.wmem_max=4194304"},
		"ports":     {func(t *probe.Tuning) { t.FirstPort, t.LastPort = 60000, 61000 }, "there are 1001 local ports"},
		"conntrack": {func(t *probe.Tuning) { t.Conntrack, t.ConntrackMax = 1000, 4096 }, "net.netfilter.nf_conntrack_max=8000"},
		"governor":  {func(t *probe.Tuning) { t.Governors = []string{"performance", "powersave"} }, "cpupower"},
		"quota":     {func(t *probe.Tuning) { t.Quota = 1.5 }, "1.50 of 4 processors"},
	} {
		tuning := good
		tuning.Governors = slices.Clone(good.Governors)
		c.change(&tuning)
		got := tuning.Warnings(1000)
		require.Len(t, got, 1, name)
		require.Contains(t, got[0], c.want, name)
	}
	root := good
	root.ReceiveBuffer, root.Privileged = 212992, true
	require.Empty(t, root.Warnings(1000), "SO_RCVBUFFORCE needs no rmem_max")
}

// TestLimitsRaisesTheSoftLimit runs in a separate process.
func TestLimitsRaisesTheSoftLimit(t *testing.T) {
	var before unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &before))
	low := before
	low.Cur = 512
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &low))
	for _, w := range probe.Limits(1) {
		require.False(t, strings.Contains(w, "limit of open files"), w)
	}
	var after unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &after))
	require.Equal(t, after.Max, after.Cur)
}

func TestHostAndClock(t *testing.T) {
	h, err := probe.ReadHost()
	require.NoError(t, err)
	require.Equal(t, runtime.NumCPU(), h.Cores)
	want, err := exec.Command("uname", "-r").Output()
	require.NoError(t, err)
	require.Equal(t, strings.TrimSpace(string(want)), h.Kernel)
	require.Greater(t, h.Memory, int64(64<<20))
	require.NotEmpty(t, h.Name)

	c, err := probe.ReadClock()
	require.NoError(t, err)
	if c.Synchronised {
		require.NotNil(t, c.BoundMs())
		require.InDelta(t, c.Bound.Seconds()*1000, *c.BoundMs(), 0.001)
	} else {
		require.Nil(t, c.BoundMs(), "nothing disciplines the clock: there is no bound")
	}
	require.Nil(t, probe.Clock{Bound: time.Millisecond}.BoundMs())
	require.InDelta(t, 1.5, *probe.Clock{Synchronised: true, Bound: 1500 * time.Microsecond}.BoundMs(), 1e-9)
}
