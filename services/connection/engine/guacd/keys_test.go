package guacd_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
)

// shared is the guacd of the tests that need a real one.
var shared stacktest.Shared

func TestMain(m *testing.M) {
	code := shared.Run(m)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			_, _ = os.Stderr.WriteString(err.Error())
			code = 1
		}
	}
	os.Exit(code)
}

// privateKeys are new keys of today's types, in OpenSSH's container.
func privateKeys(t *testing.T) map[string]string {
	t.Helper()
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	e, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	_, d, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	out := map[string]string{}
	for kind, key := range map[string]any{"RSA": r, "ECDSA": e, "Ed25519": d} {
		block, err := ssh.MarshalPrivateKey(key, "")
		require.NoError(t, err)
		out[kind] = string(pem.EncodeToMemory(block))
	}
	return out
}
