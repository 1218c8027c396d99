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
	require.ErrorContains(t, err, "no API answers at 127.0.0.1:1: start it, or name its address with --api")
	require.NotContains(t, err.Error(), "rpc error")
}
