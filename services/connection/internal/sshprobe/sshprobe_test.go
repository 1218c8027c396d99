package sshprobe_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"github.com/openova-io/bp-relay/services/connection/internal/sshprobe"
)

// server is an SSH server of golang.org/x/crypto that takes one connection.
func server(t *testing.T, before string) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	signer, err := ssh.NewSignerFromKey(key)
	require.NoError(t, err)
	cfg := &ssh.ServerConfig{NoClientAuth: true}
	cfg.KeyExchanges, cfg.Ciphers, cfg.MACs = []string{"curve25519-sha256"}, []string{"aes128-ctr"}, []string{"hmac-sha2-256"}
	cfg.AddHostKey(signer)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = conn.Write([]byte(before))
		_, _, _, _ = ssh.NewServerConn(conn, cfg)
		_ = conn.Close()
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

func TestAsk(t *testing.T) {
	a, err := sshprobe.Ask(t.Context(), server(t, "welcome\r\nto this host\r\n"))
	require.NoError(t, err)
	require.Equal(t, []string{"ssh-ed25519"}, a.HostKey)
	require.Contains(t, a.Kex, "curve25519-sha256")
	require.NotContains(t, a.Kex, "kex-strict-s-v00@openssh.com", "a signal, not an algorithm")
	require.Equal(t, []string{"aes128-ctr"}, a.Cipher)
	require.Equal(t, []string{"hmac-sha2-256"}, a.MAC)
	kind, ours, theirs := sshprobe.Algorithms{HostKey: []string{"ssh-rsa"}}.Missing(a)
	require.Equal(t, "host key algorithm", kind)
	require.Equal(t, []string{"ssh-rsa"}, ours)
	require.Equal(t, a.HostKey, theirs)
	kind, _, _ = a.Missing(a)
	require.Empty(t, kind)
}

func TestAskWhatDoesNotSpeakSSH(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = silent.Close() }()
	_, err = sshprobe.Ask(ctx, silent.Addr().String())
	require.ErrorIs(t, err, sshprobe.ErrSilent)
	_, err = sshprobe.Ask(t.Context(), server(t, strings.Repeat("no line ends here", 100)))
	require.ErrorIs(t, err, sshprobe.ErrSilent)
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("SSH-2.0-x\r\n\x00\x00\x00\x0c\x0a\x14"))
	f.Add([]byte("SSH-2.0-x\r\n\xff\xff\xff\xff\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := sshprobe.Read(bytes.NewReader(b))
		if err == nil {
			for _, s := range a.HostKey {
				require.NotContains(t, s, "\n")
			}
		}
	})
}
