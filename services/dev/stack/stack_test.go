package stack_test

import (
	"bytes"
	"context"
	"errors"
	"net"
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

	"github.com/openova-io/bp-relay/services/dev/part"
	"github.com/openova-io/bp-relay/services/dev/process"
	"github.com/openova-io/bp-relay/services/dev/stack"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
)

// processesIn returns the command lines of running processes that name dir or
// work in it.
func processesIn(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	for _, f := range lines {
		body, err := os.ReadFile(f)
		cwd, _ := os.Readlink(filepath.Join(filepath.Dir(f), "cwd"))
		if err == nil && (strings.Contains(string(body), dir) || strings.HasPrefix(cwd, dir)) {
			out = append(out, strings.ReplaceAll(string(body), "\x00", " "))
		}
	}
	return out
}

func TestUpAndStop(t *testing.T) {
	defer goleak.VerifyNone(t)
	dir := t.TempDir()
	var shown bytes.Buffer
	s, err := stack.Up(t.Context(), stack.Options{
		Dir: dir, Progress: part.NewPrinter(&shown).Report,
		S3:       stack.S3Options{SeaweedFSConfig: stack.SeaweedFSConfig{Buckets: []string{"aaa", "bbb", "ccc"}}},
		WithSSHD: true,
	})
	require.NoError(t, err)
	stopped := false
	defer func() {
		if !stopped {
			require.NoError(t, s.Stop())
		}
	}()
	t.Log("\n" + shown.String())
	require.Contains(t, shown.String(), "[4/4] ")

	_, err = stack.Up(t.Context(), stack.Options{Dir: dir})
	require.ErrorContains(t, err, "another run uses")

	// Files with secrets are closed to others.
	for _, f := range []string{"livekit/keys.json", "livekit/livekit.yaml", "seaweedfs/keys.json", "seaweedfs/s3.json", "sshd/user_key"} {
		st, err := os.Stat(filepath.Join(dir, f))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), st.Mode().Perm(), f)
	}
	// Everything listens on loopback only.
	pids := map[string]bool{}
	for _, name := range []part.Name{part.SeaweedFS, part.LiveKit, part.Guacd, part.SSHD} {
		pids["pid="+strconv.Itoa(s.Process(name).Pid())+","] = true
	}
	ss, err := exec.Command("ss", "-Hlntup").Output()
	require.NoError(t, err)
	listeners := 0
	for line := range strings.Lines(string(ss)) {
		for pid := range pids {
			if strings.Contains(line, pid) {
				listeners++
				require.Regexp(t, `\s(127\.0\.0\.1|\[::1\]):\d+\s`, line)
			}
		}
	}
	require.GreaterOrEqual(t, listeners, 8, "all parts were looked at")

	require.NoError(t, s.Stop())
	stopped = true
	require.NoError(t, s.Stop(), "twice is allowed")
	require.Empty(t, processesIn(t, dir))
	for _, addr := range []string{strings.TrimPrefix(s.S3.Endpoint, "http://"), strings.TrimPrefix(s.LiveKit.URL, "http://"), s.Guacd.Address} {
		_, err := net.DialTimeout("tcp", addr, time.Second)
		require.ErrorIs(t, err, syscall.ECONNREFUSED, addr)
	}

	// The data and the keys are there again on the next run.
	again, err := stack.Up(t.Context(), stack.Options{
		Dir: dir, NoStunner: true,
		S3: stack.S3Options{SeaweedFSConfig: stack.SeaweedFSConfig{Buckets: []string{"aaa"}}},
	})
	require.NoError(t, err)
	require.Equal(t, s.S3.SecretKey, again.S3.SecretKey)
	require.Equal(t, s.LiveKit.Secret, again.LiveKit.Secret)
	require.NoError(t, again.Stop())
	require.Empty(t, processesIn(t, dir))
}

// TestUpWithExistingServers: what is given by address is used and left alone.
func TestUpWithExistingServers(t *testing.T) {
	l, g, r, p := stacktest.LiveKit(t), stacktest.Guacd(t), stacktest.Redis(t), stacktest.Postgres(t)
	weed := stacktest.SeaweedFS(t, "aaa")
	o := stack.Options{
		Dir: t.TempDir(), NoStunner: true,
		LiveKit:  stack.LiveKitOptions{URL: l.URL, Key: l.Key, Secret: l.Secret},
		S3:       stack.S3Options{Endpoint: weed.Endpoint, AccessKey: weed.AccessKey, SecretKey: weed.SecretKey},
		Guacd:    stack.GuacdOptions{Address: g.Address},
		Redis:    stack.ServerOptions{URL: r.URL},
		Postgres: stack.ServerOptions{URL: p.URL},
	}
	s, err := stack.Up(t.Context(), o)
	require.NoError(t, err)
	require.Equal(t, l.URL, s.LiveKit.URL)
	require.Nil(t, s.Process(part.LiveKit))
	require.NoError(t, s.Stop())
	_, err = stack.CheckLiveKit(t.Context(), l.URL, l.Key, l.Secret)
	require.NoError(t, err, "it still runs")

	o.S3.SecretKey = "wrong"
	_, err = stack.Up(t.Context(), o)
	require.ErrorContains(t, err, "S3 at "+weed.Endpoint+": the secret key does not match the access key")
	require.NotContains(t, err.Error(), "\n")
}

func TestTakenPort(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	port := l.Addr().(*net.TCPAddr).Port
	_, err = stack.Up(t.Context(), stack.Options{Dir: t.TempDir(), NoStunner: true,
		LiveKit: stack.LiveKitOptions{LiveKitConfig: stack.LiveKitConfig{Port: port}}})
	var taken *stack.PortTakenError
	require.ErrorAs(t, err, &taken)
	require.Equal(t, port, taken.Port.Number)
	me := strconv.Itoa(os.Getpid())
	require.Contains(t, err.Error(), strconv.Itoa(port))
	require.Contains(t, err.Error(), "pid "+me)
	require.Contains(t, err.Error(), "--livekit-port")
	require.NotContains(t, err.Error(), "\n")
}

func TestPartThatDiesIsReported(t *testing.T) {
	defer goleak.VerifyNone(t)
	env := stacktest.Env(t, part.Redis)
	exits := make(chan process.Exit, 1)
	env.OnExit = func(x process.Exit) { exits <- x }
	r, err := env.StartRedis(t.Context(), stack.RedisConfig{})
	require.NoError(t, err)
	defer func() { _ = r.Stop() }()

	// Ended by us: not reported. Brought back: the same address and password.
	require.NoError(t, r.Kill())
	_, err = stack.CheckRedis(t.Context(), r.URL)
	require.ErrorContains(t, err, "nothing listens")
	require.NoError(t, r.Restart(t.Context()))
	_, err = stack.CheckRedis(t.Context(), r.URL)
	require.NoError(t, err)
	require.Empty(t, exits)

	// Paused: it is there and answers nothing.
	require.NoError(t, r.Pause())
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = stack.CheckRedis(ctx, r.URL)
	require.ErrorContains(t, err, "does not answer in time")
	require.NoError(t, r.Resume())
	_, err = stack.CheckRedis(t.Context(), r.URL)
	require.NoError(t, err)

	// Ended by someone else: reported.
	require.NoError(t, syscall.Kill(r.Pid(), syscall.SIGKILL))
	select {
	case x := <-exits:
		require.Equal(t, string(part.Redis), x.Name)
		require.ErrorContains(t, x, "signal: killed")
		require.NotContains(t, x.Error(), "\n")
	case <-time.After(10 * time.Second):
		t.Fatal("the end was not reported")
	}
	require.NoError(t, r.Stop())
}

func TestStartThatFails(t *testing.T) {
	env := stacktest.Env(t, part.LiveKit)
	_, err := env.StartLiveKit(t.Context(), stack.LiveKitConfig{Overrides: map[string]any{"no_such_key": 1}})
	var start *process.StartError
	require.ErrorAs(t, err, &start)
	require.Contains(t, err.Error(), "no_such_key", "the part's last word is shown")
	require.Contains(t, err.Error(), "livekit.log")
	require.NotContains(t, err.Error(), "\n")
	require.Empty(t, processesIn(t, env.Dir))
}

func TestStartInterrupted(t *testing.T) {
	env := stacktest.Env(t, part.SeaweedFS)
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(300*time.Millisecond, func() { cancel(errors.New("Ctrl-C")) })
	_, err := env.StartSeaweedFS(ctx, stack.SeaweedFSConfig{})
	require.ErrorContains(t, err, "Ctrl-C")
	require.Empty(t, processesIn(t, env.Dir))
}

func TestWrongAddresses(t *testing.T) {
	free := stacktest.Port(t)
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(free))
	_, err := stack.CheckS3(t.Context(), "http://"+addr, "", "k", "s")
	require.EqualError(t, err, "S3 at http://"+addr+": nothing listens there: start it or check the address")
	_, err = stack.CheckGuacd(t.Context(), addr)
	require.EqualError(t, err, "guacd at "+addr+": nothing listens there: start it or check the address")
	_, err = stack.CheckPostgres(t.Context(), "postgres://u:hidden@"+addr+"/d")
	require.ErrorContains(t, err, "nothing listens")
	require.NotContains(t, err.Error(), "hidden")
	_, err = stack.CheckRedis(t.Context(), "redis://:hidden@"+addr)
	require.ErrorContains(t, err, "nothing listens")
	require.NotContains(t, err.Error(), "hidden")
}
