package connection_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	connectionv1 "github.com/openova-io/bp-relay/gen/relay/connection/v1"

	"github.com/openova-io/bp-relay/services/dev/stack"
)

// legacy are what guacd 1.3's libssh2 needs and no sshd allows by itself.
func legacy() []string {
	return []string{"HostKeyAlgorithms +ssh-rsa", "PubkeyAcceptedAlgorithms +ssh-rsa"}
}

// startSSHD runs this machine's sshd with host keys of all types. Without further
// lines its algorithms are its own defaults: those of a Debian 12 as it is installed.
func startSSHD(t *testing.T, like *stack.SSHD, lines ...string) *connectionv1.SshTarget {
	t.Helper()
	pinned := "rsa" // the type that guacd asks for
	if os.Getenv(otherGuacd) != "" {
		pinned = "ecdsa"
	}
	dir := t.TempDir()
	me, err := user.Current()
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := l.Addr().(*net.TCPAddr).Port
	require.NoError(t, l.Close())
	config := []string{"ListenAddress 127.0.0.1:" + strconv.Itoa(port), "PidFile none", "StrictModes no", "PermitRootLogin prohibit-password",
		"AuthorizedKeysFile " + filepath.Join(dir, "authorized_keys"), "AcceptEnv LANG LC_*",
		"SetEnv HOME=" + dir} // a person's dotfiles must not affect a session
	for _, kind := range []string{"rsa", "ecdsa", "ed25519"} {
		path := filepath.Join(dir, kind)
		out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-t", kind, "-N", "", "-f", path).CombinedOutput()
		require.NoError(t, err, string(out))
		config = append(config, "HostKey "+path)
	}
	key := filepath.Join(dir, "user")
	require.NoError(t, os.WriteFile(key, []byte(like.PrivateKey), 0o600))
	public, err := exec.CommandContext(t.Context(), "ssh-keygen", "-y", "-f", key).Output()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "authorized_keys"), public, 0o600))
	path := filepath.Join(dir, "sshd_config")
	require.NoError(t, os.WriteFile(path, []byte(strings.Join(append(config, lines...), "\n")+"\n"), 0o600))

	require.NoError(t, os.MkdirAll("/run/sshd", 0o755))
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "/usr/sbin/sshd", "-D", "-e", "-f", path)
	log := new(bytes.Buffer)
	cmd.Stderr = log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	at := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", at)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, 20*time.Second, 50*time.Millisecond)
	hostKey, err := os.ReadFile(filepath.Join(dir, pinned+".pub"))
	require.NoError(t, err)
	return &connectionv1.SshTarget{Hostname: "127.0.0.1", Port: int32(port), Username: me.Username, HostKey: strings.TrimSpace(string(hostKey)),
		Credential: &connectionv1.SshTarget_PrivateKey{PrivateKey: like.PrivateKey}}
}
