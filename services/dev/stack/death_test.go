package stack_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/dev/part"
	"github.com/openova-io/bp-relay/services/dev/stack"
)

// parentEnv makes the test binary a process that starts sshd and Redis in the
// folder it names, prints their pids and waits to be killed.
const parentEnv = "RELAY_LOCAL_TEST_PARENT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(parentEnv); dir != "" {
		if err := parent(dir); err != nil {
			_, _ = fmt.Fprintln(os.Stdout, "error", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func parent(dir string) error {
	parts, err := part.Named(part.Redis, part.SSHD)
	if err != nil {
		return err
	}
	tools, err := part.Obtainer{}.Obtain(context.Background(), parts)
	if err != nil {
		return err
	}
	e := &stack.Env{Dir: dir, Tools: tools, Ports: new(stack.Ports)}
	r, err := e.StartRedis(context.Background(), stack.RedisConfig{})
	if err != nil {
		return err
	}
	s, err := e.StartSSHD(context.Background(), stack.SSHDConfig{})
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintln(os.Stdout, "started", r.Pid(), s.Pid())
	select {}
}

// TestKilledParentLeavesNothing: relay is killed with SIGKILL, and no part
// outlives it.
func TestKilledParentLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), parentEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // where the test ends early
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	words := strings.Fields(line)
	require.Len(t, words, 3, line)
	require.Equal(t, "started", words[0], line)
	require.Len(t, processesIn(t, dir), 2)

	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	for _, w := range words[1:] {
		pid, err := strconv.Atoi(w)
		require.NoError(t, err)
		require.Eventually(t, func() bool { return ended(pid) }, 5*time.Second, 10*time.Millisecond, "pid %d", pid)
	}
	require.Empty(t, processesIn(t, dir))
}

// ended: gone, or waiting for whoever adopted it to reap it.
func ended(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}
