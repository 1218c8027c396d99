package connection_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	connectionv1 "github.com/openova-io/bp-relay/gen/relay/connection/v1"

	"github.com/openova-io/bp-relay/services/dev/stack"
)

// With a guacd of today, the same sshd: a person logs in. A definition with the
// server's RSA key, which that guacd does not ask for, is told so.
func TestAnUnmodifiedSSHDByANewerGuacd(t *testing.T) {
	if os.Getenv(otherGuacd) == "" {
		t.Skip(otherGuacd + " is not set: no registry has a guacd 1.5.5 or later")
	}
	r := newRig(t)
	p := r.start()
	// RSA is left out: libssh2 1.10, of Debian 12, signs with it by SHA-1 only.
	for _, kind := range []string{"ecdsa", "ed25519"} {
		t.Run(kind, func(t *testing.T) {
			key := filepath.Join(t.TempDir(), kind)
			out, err := exec.CommandContext(t.Context(), "ssh-keygen", "-q", "-t", kind, "-N", "", "-f", key).CombinedOutput()
			require.NoError(t, err, string(out))
			private, err := os.ReadFile(key)
			require.NoError(t, err)
			target := startSSHD(t, &stack.SSHD{PrivateKey: string(private)})
			conn := r.define(p, "today-"+kind, func(d *connectionv1.Connection) { d.Target = &connectionv1.Connection_Ssh{Ssh: target} })
			o := r.open(p, conn, "ann")
			d := dial(t, p, o.GetTunnelPath(), "ticket="+o.GetTicket())
			d.wait("a first frame", func() bool { return d.syncs > 0 })
			d.ready()
		})
	}
	t.Run("another host key than is asked for", func(t *testing.T) {
		target := startSSHD(t, r.sshd)
		target.HostKey = "ssh-rsa " + strings.Fields(r.sshd.HostKey)[1]
		conn := r.define(p, "today-pinned-rsa", func(d *connectionv1.Connection) { d.Target = &connectionv1.Connection_Ssh{Ssh: target} })
		o := r.open(p, conn, "ann")
		_, told := dial(t, p, o.GetTunnelPath(), "ticket="+o.GetTicket()).closed()
		require.Contains(t, told, "guacd asks this target for its ecdsa-sha2-nistp256 key, and the connection's definition has its ssh-rsa key")
		require.Contains(t, told, "ssh-keyscan -t ecdsa HOST")
	})
}
