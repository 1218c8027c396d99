package app

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestExportSaysWhoDoesNotAnswer(t *testing.T) {
	t.Setenv("RELAY_TOKEN", "x")
	cmd := exportCommand()
	cmd.SetArgs([]string{"orgs/acme/captures/a", "--api", "127.0.0.1:1", "-o", t.TempDir() + "/e.tar"})
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	err := cmd.ExecuteContext(t.Context())
	require.ErrorContains(t, err, "no API answers at 127.0.0.1:1: start it, or set its address with --api")
	require.NotContains(t, err.Error(), "rpc error")
}

// A token is sent in plaintext only where nobody can read it, or where the
// operator writes http://.
func TestTokensAreNotSentInTheOpen(t *testing.T) {
	_, err := dialAPI("relay.example.org:8080")
	require.ErrorContains(t, err, "https://relay.example.org:8080")
	for _, api := range []string{"https://relay.example.org:8443/", "http://relay:8080", "127.0.0.1:8080", "localhost:8080", "[::1]:8080"} {
		conn, err := dialAPI(api)
		require.NoError(t, err, api)
		require.NoError(t, conn.Close())
	}
}
