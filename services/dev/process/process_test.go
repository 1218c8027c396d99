package process_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/openova-io/bp-relay/services/dev/process"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shell is a program that writes "up" to its log and is ready then.
func shell(t *testing.T, script string) process.Spec {
	t.Helper()
	log := filepath.Join(t.TempDir(), "logs", "sh.log")
	return process.Spec{
		Name: "sh", Args: []string{"sh", "-c", script}, Log: log,
		Ready: func(context.Context) error {
			body, err := os.ReadFile(log)
			if err == nil && !bytes.Contains(body, []byte("up")) {
				err = errors.New("not up")
			}
			return err
		},
	}
}

func start(t *testing.T, s process.Spec) *process.Process {
	t.Helper()
	p, err := process.Start(t.Context(), s)
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Stop() })
	return p
}

func gone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func TestStopAndRestart(t *testing.T) {
	p := start(t, shell(t, "trap 'exit 3' TERM; echo up; while :; do sleep 0.01; done"))
	first := p.Pid()
	require.Positive(t, first)
	require.Nil(t, p.State(), "it runs")
	require.NoError(t, p.Stop())
	require.NoError(t, p.Stop(), "twice")
	<-p.Done()
	require.Equal(t, 3, p.State().ExitCode())
	require.Zero(t, p.Pid())
	require.True(t, gone(first))

	require.NoError(t, p.Restart(t.Context()))
	require.NotEqual(t, first, p.Pid())
	require.NoError(t, p.Kill())
	require.Equal(t, syscall.SIGKILL, p.State().Sys().(syscall.WaitStatus).Signal())
}

// TestStopEndsAllBelow: a child that ignores SIGTERM, and one that left the
// process group.
func TestStopEndsAllBelow(t *testing.T) {
	spec := shell(t, `setsid sleep 100 & echo $!; (trap '' TERM; sleep 100) & echo $!; echo up; wait`)
	p := start(t, spec)
	body, err := os.ReadFile(spec.Log)
	require.NoError(t, err)
	require.NoError(t, p.Stop())
	for _, word := range strings.Fields(string(body))[:2] {
		pid, err := strconv.Atoi(word)
		require.NoError(t, err)
		require.Eventually(t, func() bool { return gone(pid) || zombie(pid) }, 5*time.Second, 5*time.Millisecond)
	}
}

func zombie(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || bytes.Contains(stat, []byte(") Z "))
}

func TestStopThatTakesTooLong(t *testing.T) {
	spec := shell(t, "trap '' TERM; echo up; while :; do sleep 0.01; done")
	spec.Grace = 100 * time.Millisecond
	require.ErrorContains(t, start(t, spec).Stop(), "sh did not stop within 100ms and was killed; its log is "+spec.Log)
	spec.KillIsNormal = true
	require.NoError(t, start(t, spec).Stop())
}

func TestExitIsReported(t *testing.T) {
	exits := make(chan process.Exit, 1)
	spec := shell(t, "echo up; read line; echo last words; exit 7")
	in, out, err := os.Pipe()
	require.NoError(t, err)
	returns := make(chan struct{})
	spec.Stdin, spec.OnExit = in, func(x process.Exit) { exits <- x; <-returns }
	p := start(t, spec)
	require.NoError(t, in.Close())
	require.NoError(t, out.Close())
	x := <-exits
	require.EqualError(t, x, "sh exited by itself (exit status 7); it last said: last words; its log is "+spec.Log)
	select {
	case <-p.Done():
		require.FailNow(t, "Done did not wait for OnExit")
	default:
	}
	close(returns)
	require.NoError(t, p.Stop())
	require.Empty(t, exits, "once")
}

func TestStartThatFails(t *testing.T) {
	var failed *process.StartError
	spec := shell(t, "echo no config; exit 1")
	spec.Hint = "write one"
	_, err := process.Start(t.Context(), spec)
	require.ErrorAs(t, err, &failed)
	require.EqualError(t, err, "sh did not start: it exited at once (exit status 1); it last said: no config; write one; its log is "+spec.Log)

	spec = shell(t, "exec sleep 100")
	spec.Within = 50 * time.Millisecond
	_, err = process.Start(t.Context(), spec)
	require.ErrorContains(t, err, "sh did not start: not ready after 50ms: not up")

	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(20*time.Millisecond, func() { cancel(errors.New("Ctrl-C")) })
	_, err = process.Start(ctx, shell(t, "exec sleep 100"))
	require.ErrorContains(t, err, "start of sh interrupted: Ctrl-C")

	_, err = process.Start(t.Context(), process.Spec{Name: "none", Args: []string{"/nonexistent"}})
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = process.Start(t.Context(), process.Spec{Name: "none", Args: []string{"no-such-program"}})
	require.ErrorIs(t, err, exec.ErrNotFound)

	taken := errors.New("port taken")
	_, err = process.Start(t.Context(), process.Spec{Name: "sh", Args: []string{"sh"}, Before: func() error { return taken }})
	require.Equal(t, taken, err)
}

func TestRunStopsTheGroup(t *testing.T) {
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	require.NoError(t, err)
	defer func() { _ = log.Close() }()
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(100*time.Millisecond, func() { cancel(errors.New("Ctrl-C")) })
	began := time.Now()
	require.ErrorContains(t, process.Logged(ctx, exec.CommandContext(ctx, "sh", "-c", "sleep 100; echo never"), log), "Ctrl-C")
	require.Less(t, time.Since(began), 9*time.Second)
	require.Equal(t, "$ sh -c sleep 100; echo never", process.LastLine(log.Name(), 0))

	out, err := process.Output(t.Context(), exec.CommandContext(t.Context(), "echo", "hello"))
	require.NoError(t, err)
	require.Equal(t, "hello\n", out)
	_, err = process.Output(t.Context(), exec.CommandContext(t.Context(), "sh", "-c", "echo why >&2; exit 2"))
	require.ErrorContains(t, err, "exit status 2: why")
}
