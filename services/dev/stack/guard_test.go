package stack_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/dev/stack"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
)

// dialAs connects to a loopback port as another user and returns what is said.
func dialAs(t *testing.T, uid uint32, port string) (string, error) {
	t.Helper()
	cmd := exec.Command("bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/"+port)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func needsRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can act as another user")
	}
	ports := new(stack.Ports)
	defer ports.Release()
	if err := ports.Guard(stacktest.Port(t)); errors.Is(err, syscall.EPERM) {
		t.Skip("no CAP_NET_ADMIN: ", err)
	}
}

const stranger = 65534 // nobody

// TestGuard: a guarded port refuses other users as long as it is guarded, and no
// other port does.
func TestGuard(t *testing.T) {
	needsRoot(t)
	listen := func() string {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { _ = l.Close() })
		return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	}
	guarded, open := listen(), listen()
	ports := new(stack.Ports)
	n, err := strconv.Atoi(guarded)
	require.NoError(t, err)
	require.NoError(t, ports.Guard(n))
	defer ports.Release()

	said, err := dialAs(t, stranger, guarded)
	require.Error(t, err)
	require.Contains(t, said, "refused")
	_, err = dialAs(t, 0, guarded)
	require.NoError(t, err, "this user")
	_, err = dialAs(t, stranger, open)
	require.NoError(t, err, "another port")

	t.Setenv("SUDO_UID", fmt.Sprint(stranger))
	again := listen()
	n, err = strconv.Atoi(again)
	require.NoError(t, err)
	require.NoError(t, ports.Guard(n))
	_, err = dialAs(t, stranger, again)
	require.NoError(t, err, "who called sudo")
	_, err = dialAs(t, stranger-1, again)
	require.Error(t, err)

	ports.Release()
	_, err = dialAs(t, stranger, guarded)
	require.NoError(t, err, "the rule is gone")
}

// TestGuacdForUsOnly: no other user of the machine reaches guacd, which asks for
// nothing; its log has no connection ids, and what runs in it is confined.
func TestGuacdForUsOnly(t *testing.T) {
	needsRoot(t)
	g := stacktest.Guacd(t)
	_, port, err := net.SplitHostPort(g.Address)
	require.NoError(t, err)
	said, err := dialAs(t, stranger, port)
	require.Error(t, err)
	require.Contains(t, said, "refused")
	_, err = stack.CheckGuacd(t.Context(), g.Address)
	require.NoError(t, err)

	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.Pid()))
	require.NoError(t, err)
	fields := strings.ReplaceAll(string(status), "\t", " ")
	for _, want := range []string{"\nUid: 64822 64822 64822 64822\n", "\nCapEff: 0000000000000000\n", "\nNoNewPrivs: 1\n", "\nSeccomp: 2\n", " 1\n"} {
		require.Contains(t, fields, want)
	}
	log, err := os.ReadFile(g.Log())
	require.NoError(t, err)
	require.NotContains(t, string(log), "onnection ID")
	st, err := os.Stat(g.Log())
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), st.Mode().Perm())
}
