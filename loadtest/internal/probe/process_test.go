package probe_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/openova-io/bp-relay/loadtest/internal/probe"
)

// roleVariable makes this test program a child to watch.
const roleVariable = "PROBE_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) != "" {
		child()
		return
	}
	os.Exit(m.Run())
}

// child executes the commands on its standard input, one per line, and answers
// each with a line:
//
//	burn MS   uses one processor for that much CPU time
//	watch MS  does the same and prints how often and for how many seconds a CPU
//	          quota stopped it, and the quota in processors
//	listen    opens a UDP socket with the smallest buffer and prints its port
//	close     closes it
//	count     prints how many datagrams wait in it
func child() {
	var conn *net.UDPConn
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		answer := "done"
		switch word {
		case "burn":
			ms, _ := strconv.Atoi(rest)
			burn(time.Duration(ms) * time.Millisecond)
		case "watch":
			ms, _ := strconv.Atoi(rest)
			answer = watchOneself(time.Duration(ms) * time.Millisecond)
		case "listen":
			var err error
			if conn, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
				answer = err.Error()
				break
			}
			_ = conn.SetReadBuffer(1) // the kernel raises it to its minimum, about 2 KiB
			answer = strconv.Itoa(conn.LocalAddr().(*net.UDPAddr).Port)
		case "count":
			n, buf := 0, make([]byte, 2048)
			for {
				_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
				if _, err := conn.Read(buf); err != nil {
					break
				}
				n++
			}
			answer = strconv.Itoa(n)
		case "close":
			_ = conn.Close()
		}
		_, _ = fmt.Fprintln(os.Stdout, answer)
	}
}

func watchOneself(d time.Duration) string {
	self, err := probe.StartSelf()
	if err != nil {
		return err.Error()
	}
	burn(d)
	h, err := self.Stop()
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(h.Throttled, h.ThrottledSeconds, probe.ReadTuning().Quota)
}

// burn uses the processor until the whole process has used this much more CPU
// time.
func burn(d time.Duration) {
	used := func() time.Duration {
		var ts unix.Timespec
		_ = unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts)
		return time.Duration(ts.Nano())
	}
	for end := used() + d; used() < end; {
		for x := range 100_000 {
			runtime.KeepAlive(x)
		}
	}
}

// kid is a child process under test.
type kid struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Scanner
}

func start(t *testing.T, program string) *kid {
	t.Helper()
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), roleVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = os.Stderr
	runtime.LockOSThread() // the death signal is sent when this thread ends
	t.Cleanup(runtime.UnlockOSThread)
	require.NoError(t, cmd.Start())
	k := &kid{t: t, cmd: cmd, in: in, out: bufio.NewScanner(out)}
	t.Cleanup(k.stop)
	return k
}

func (k *kid) pid() int { return k.cmd.Process.Pid }

func (k *kid) do(line string) string {
	k.t.Helper()
	_, err := fmt.Fprintln(k.in, line)
	require.NoError(k.t, err)
	require.True(k.t, k.out.Scan(), "the child has ended")
	return k.out.Text()
}

func (k *kid) stop() {
	_ = k.cmd.Process.Kill()
	_ = k.cmd.Wait()
}

// program is this test program under another name.
func program(t *testing.T, name string) string {
	t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, self, 0o700))
	return path
}

func TestFind(t *testing.T) {
	// Longer than the part of a name that the kernel keeps.
	name := fmt.Sprintf("probe-test-child-%d", os.Getpid())
	path := program(t, name)
	_, err := probe.Find(name)
	require.ErrorIs(t, err, probe.ErrNotFound)

	first := start(t, path)
	require.Equal(t, "done", first.do("burn 1"))
	pid, err := probe.Find(name)
	require.NoError(t, err)
	require.Equal(t, first.pid(), pid)
	pid, err = probe.Find(strconv.Itoa(first.pid()))
	require.NoError(t, err)
	require.Equal(t, first.pid(), pid)
	_, err = probe.Find(name[:15]) // the truncated name in comm matches, too
	require.NoError(t, err)
	_, err = probe.Find(name[:14])
	require.ErrorIs(t, err, probe.ErrNotFound, "a part of a name does not match")

	second := start(t, path)
	require.Equal(t, "done", second.do("burn 1"))
	_, err = probe.Find(name)
	require.ErrorContains(t, err, strconv.Itoa(first.pid()))
	require.ErrorContains(t, err, strconv.Itoa(second.pid()))
	second.stop()
	pid, err = probe.Find(name)
	require.NoError(t, err, "the other one has ended")
	require.Equal(t, first.pid(), pid)
	for _, spec := range []string{"", "0", "-1", "999999999"} {
		_, err := probe.Find(spec)
		require.Error(t, err, spec)
	}
}

// TestDropsAreCountedExactly: the kernel's drops are exactly the datagrams that
// were sent and are not in the buffer.
func TestDropsAreCountedExactly(t *testing.T) {
	k := start(t, "/proc/self/exe")
	watch, err := probe.Start(map[string]int{"child": k.pid()})
	require.NoError(t, err)
	sent := 0
	flood := func() {
		conn, err := net.Dial("udp4", "127.0.0.1:"+k.do("listen"))
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		for range 200 {
			_, err := conn.Write(make([]byte, 1000)) // on loopback it is in the buffer, or dropped, when this returns
			require.NoError(t, err)
			sent++
		}
	}
	flood()
	s, err := probe.UDP(k.pid())
	require.NoError(t, err)
	require.Equal(t, 1, s.Open)
	require.Positive(t, s.Queued, "some wait to be read")
	watch.Sample()
	got, err := strconv.Atoi(k.do("count"))
	require.NoError(t, err)
	require.Positive(t, got)
	require.EqualValues(t, sent-got, s.Drops)

	require.Equal(t, "done", k.do("close"))
	s, err = probe.UDP(k.pid())
	require.NoError(t, err)
	require.Zero(t, s.Open)
	flood() // at another socket: the first one's drops are kept
	used := watch.Stop()
	more, err := strconv.Atoi(k.do("count"))
	require.NoError(t, err)
	require.Len(t, used, 1)
	require.EqualValues(t, sent-got-more, used[0].SocketDrops)
	require.Empty(t, watch.Notes())

	// Drops before the watch began do not count.
	again, err := probe.Start(map[string]int{"child": k.pid()})
	require.NoError(t, err)
	require.Zero(t, again.Stop()[0].SocketDrops)
}

func TestWatchMeasuresAProcess(t *testing.T) {
	k := start(t, "/proc/self/exe")
	k.do("burn 200") // not in the watch
	watch, err := probe.Start(map[string]int{"child": k.pid(), "generator": os.Getpid()})
	require.NoError(t, err)
	k.do("burn 300")
	points := watch.Sample()
	require.Len(t, points, 2)
	require.Equal(t, "child", points[0].Name)
	require.Positive(t, points[0].Cores)
	k.do("burn 200")
	used := watch.Stop()
	require.Len(t, used, 2)
	require.Equal(t, k.pid(), used[0].PID)
	require.InDelta(t, 0.5, used[0].CPUSeconds, 0.1, "300 + 200 ms, and the cost of the pipe")
	require.LessOrEqual(t, used[0].Cores, 1.2, "it has one busy thread")
	require.Greater(t, used[0].RSSBytes, int64(1<<20))
	require.GreaterOrEqual(t, used[0].PeakBytes, used[0].RSSBytes)
	require.Positive(t, watch.Threads("child"))
	require.Zero(t, watch.Threads("nobody"))

	_, err = probe.Start(map[string]int{"sfu": 999999999})
	require.ErrorIs(t, err, probe.ErrNotFound)
	require.ErrorContains(t, err, "sfu")
}

func TestWatchTellsOfAProcessThatEnds(t *testing.T) {
	k := start(t, "/proc/self/exe")
	watch, err := probe.Start(map[string]int{"sfu": k.pid()})
	require.NoError(t, err)
	k.do("burn 100")
	require.Len(t, watch.Sample(), 1)
	k.stop()
	require.Empty(t, watch.Sample())
	require.Empty(t, watch.Sample())
	require.Len(t, watch.Notes(), 1, "noted once")
	require.Contains(t, watch.Notes()[0], "sfu")
	used := watch.Stop()
	require.Len(t, used, 1)
	require.Greater(t, used[0].CPUSeconds, 0.09, "its last known use")
}
