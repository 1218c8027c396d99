package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/dev/runfile"
	"github.com/openova-io/bp-relay/services/dev/stack"
)

// TestUpIsClosedToOtherUsers: another user of the machine reads no file of a run,
// no secret from a command line, and reaches no endpoint that asks for nothing.
func TestUpIsClosedToOtherUsers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root runs guacd and can act as another user")
	}
	ports := new(stack.Ports)
	defer ports.Release()
	if err := ports.Guard(1); errors.Is(err, syscall.EPERM) {
		t.Skip("no CAP_NET_ADMIN: ", err)
	}
	old := syscall.Umask(0o022)
	defer syscall.Umask(old)
	dir := filepath.Join(t.TempDir(), "run")
	out := new(locked)
	ended := make(chan int, 1)
	go func() { ended <- Main([]string{"up", "--free-ports", "--dir", dir}, out, out) }()
	var run runfile.Running
	require.Eventually(t, func() bool {
		var err error
		run, err = runfile.Find(t.Context(), dir)
		return err == nil
	}, 3*time.Minute, 100*time.Millisecond, "up does not become ready: %s", out)
	defer func() {
		require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGINT))
		require.Zero(t, <-ended, out.String())
	}()

	secrets := 0
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if filepath.Ext(path) != ".vif" { // SeaweedFS chooses their mode, in a folder that is closed
			require.Zero(t, info.Mode().Perm()&0o077, "%s is %s", path, info.Mode())
		}
		if d.Name() == "keys.json" {
			secrets++
			noSecretOfOn(t, path, run.Processes)
		}
		return nil
	}))
	require.Equal(t, 2, secrets, "LiveKit's and SeaweedFS's")

	status, err := http.Get("http://" + run.Admin + "/readyz")
	require.NoError(t, err, "this user reaches it")
	require.NoError(t, status.Body.Close())
	for what, address := range map[string]string{
		"metrics and profiles": run.Admin, "STUNner's metrics": strings.TrimSuffix(strings.TrimPrefix(run.TURNMetrics, "http://"), "/metrics"),
		"guacd": argument(t, run.Processes[runfile.Guacd], "-l"), "config discovery": argument(t, run.Processes[runfile.TURN], "-c"),
	} {
		port := address[strings.LastIndexByte(address, ':')+1:]
		said, err := connectAsNobody(t.Context(), port)
		require.Error(t, err, what)
		require.Contains(t, said, "refused", what)
	}
	_, port, err := net.SplitHostPort(run.API)
	require.NoError(t, err)
	_, err = connectAsNobody(t.Context(), port)
	require.NoError(t, err, "the API asks for a token: everybody may call it")
}

func connectAsNobody(ctx context.Context, port string) (string, error) {
	cmd := exec.CommandContext(ctx, "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/"+port)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	said, err := cmd.CombinedOutput()
	return string(said), err
}

func commandLine(t *testing.T, pid int) []string {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	require.NoError(t, err)
	return strings.Split(strings.TrimRight(string(raw), "\x00"), "\x00")
}

// argument returns what follows a flag.
func argument(t *testing.T, pid int, flag string) string {
	t.Helper()
	line := commandLine(t, pid)
	for i, word := range line[:len(line)-1] {
		if word == flag {
			return line[i+1]
		}
	}
	require.Fail(t, "no such flag", "%s in %q", flag, line)
	return ""
}

// noSecretOfOn: none of the file's secrets is in a command line of the run.
func noSecretOfOn(t *testing.T, path string, processes map[string]int) {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	var keys map[string]string
	require.NoError(t, json.Unmarshal(raw, &keys))
	require.NotEmpty(t, keys)
	require.GreaterOrEqual(t, len(processes), 5)
	for name, pid := range processes {
		for key, value := range keys {
			require.NotContains(t, strings.Join(commandLine(t, pid), " "), value, "%s of %s in the command line of %s", key, path, name)
		}
	}
}

// locked is a buffer for two goroutines.
type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
