package measure

import (
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseStat(t *testing.T) {
	pid, ppid, ok := parseStat([]byte("812 (a) b (c)) S 1 812 812 0 -1\n"))
	require.True(t, ok)
	require.Equal(t, 812, pid)
	require.Equal(t, 1, ppid)
	for _, bad := range []string{"", "812", "812 (x", "812 (x)", "x (x) S 1", "1 (x) S y", ") ("} {
		_, _, ok := parseStat([]byte(bad))
		require.False(t, ok, bad)
	}
}

func TestBelow(t *testing.T) {
	p := map[int]int{1: 0, 10: 1, 20: 10, 30: 20, 40: 1, 50: 51, 51: 50}
	require.True(t, below(p, 30, 10))
	require.True(t, below(p, 10, 10))
	require.False(t, below(p, 40, 10))
	require.False(t, below(p, 50, 10), "a loop, left by processes that ended during the reading, does not hang")
}

// A child's work is not noise, while it runs and after it was waited for.
func TestTreeHoldsChildren(t *testing.T) {
	before, err := TreeCPU()
	require.NoError(t, err)
	cmd := exec.Command("sh", "-c", "while :; do :; done")
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool {
		used, err := CPU(cmd.Process.Pid)
		return err == nil && used > 50*time.Millisecond
	}, 20*time.Second, 5*time.Millisecond)
	running, err := TreeCPU()
	require.NoError(t, err)
	require.Greater(t, running-before, 50*time.Millisecond)
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait(), "killed")
	after, err := TreeCPU()
	require.NoError(t, err)
	require.GreaterOrEqual(t, after, running)
}

func TestNoiseIsAPart(t *testing.T) {
	n, err := StartNoise()
	require.NoError(t, err)
	require.Eventually(t, func() bool { return time.Since(n.machine.At) > 50*time.Millisecond }, time.Second, 5*time.Millisecond)
	others, stolen, err := n.Since()
	require.NoError(t, err)
	require.GreaterOrEqual(t, others, 0.0)
	require.Less(t, others, 1.5, "/proc/stat has steps of 10 ms")
	require.GreaterOrEqual(t, stolen, 0.0)
}
