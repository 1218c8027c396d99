package cli_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/cli"
)

// do runs the command line and returns its exit code and what it printed.
func do(args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = cli.Main(args, strings.NewReader(""), &o, &e)
	return code, o.String(), e.String()
}

func TestListsAndHelp(t *testing.T) {
	code, out, _ := do("scenarios")
	require.Zero(t, code)
	require.Contains(t, out, "turn-tax")
	code, out, _ = do("scenarios", "smoke")
	require.Zero(t, code)
	require.Contains(t, out, "rooms:")
	code, out, _ = do("schema")
	require.Zero(t, code)
	require.True(t, json.Valid([]byte(out)))
	for _, cmd := range []string{"run", "find-capacity", "plan", "report", "scenarios"} {
		code, out, _ = do(cmd, "--help")
		require.Zero(t, code, cmd)
		require.Contains(t, out, "Usage:", cmd)
	}
}

// TestOutputThatIsLost: a run whose output was lost does not succeed, unless the
// reader closed the output.
func TestOutputThatIsLost(t *testing.T) {
	var stderr bytes.Buffer
	require.Equal(t, 1, cli.Main([]string{"scenarios"}, nil, broken{syscall.ENOSPC}, &stderr))
	require.Equal(t, "relay-loadtest: cannot write the standard output: no space left on device\n", stderr.String())
	stderr.Reset()
	require.Zero(t, cli.Main([]string{"scenarios"}, nil, broken{syscall.EPIPE}, &stderr))
	require.Empty(t, stderr.String())
}

// broken accepts no data.
type broken struct{ err error }

func (b broken) Write([]byte) (int, error) { return 0, b.err }
