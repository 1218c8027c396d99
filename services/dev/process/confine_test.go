package process_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/openova-io/bp-relay/services/dev/process"
)

// TestOthersMayReadNothing: neither what a program makes nor its log.
func TestOthersMayReadNothing(t *testing.T) {
	mine := unix.Umask(0o022)
	defer unix.Umask(mine)
	dir := t.TempDir()
	spec := shell(t, "mkdir "+dir+"/made; echo secret > "+dir+"/made/file; echo up; exec sleep 100")
	start(t, spec)
	for _, path := range []string{dir + "/made", dir + "/made/file", spec.Log, filepath.Dir(spec.Log)} {
		st, err := os.Stat(path)
		require.NoError(t, err)
		require.Zero(t, st.Mode().Perm()&0o077, "%s: %s", path, st.Mode())
	}
	require.Equal(t, 0o022, unix.Umask(0o022), "this process keeps its own mask")
}

// TestConfined: no program of a confined process gains privileges or makes a
// refused system call; this process still may.
func TestConfined(t *testing.T) {
	spec := shell(t, "grep -E 'NoNewPrivs|Seccomp:' /proc/self/status; unshare --user true || echo refused; echo up; exec sleep 100")
	spec.Confined = true
	start(t, spec)
	said, err := os.ReadFile(spec.Log)
	require.NoError(t, err)
	require.Contains(t, strings.ReplaceAll(string(said), "\t", ""), "NoNewPrivs:1\nSeccomp:2\n")
	require.Contains(t, string(said), "Operation not permitted")
	require.Contains(t, string(said), "refused")

	free := shell(t, "grep -E 'NoNewPrivs|Seccomp:' /proc/self/status; echo up; exec sleep 100")
	start(t, free)
	said, err = os.ReadFile(free.Log)
	require.NoError(t, err)
	require.Contains(t, strings.ReplaceAll(string(said), "\t", ""), "NoNewPrivs:0\nSeccomp:0\n", "only what is asked for")
}

// TestNamespaces: the program is alone in its own, and stopping ends what is
// below it.
func TestNamespaces(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("namespaces need root")
	}
	spec := shell(t, "echo i am $$; sleep 100 & echo up; wait")
	spec.Namespaces = syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC
	p := start(t, spec)
	said, err := os.ReadFile(spec.Log)
	require.NoError(t, err)
	require.Contains(t, string(said), "i am 1\n")
	pid := p.Pid()
	require.NoError(t, p.Kill())
	require.True(t, gone(pid))
	_, err = process.Start(t.Context(), process.Spec{Name: "none", Args: []string{"true"}, Namespaces: syscall.CLONE_NEWPID})
	require.NoError(t, err)
}
