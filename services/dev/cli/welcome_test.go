package cli

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/app"
)

// A stranger copies the Go program out of the terminal: it must compile as it
// is printed, from the place where the text says to save it, which is no
// module of the workspace.
func TestPrintedProgramCompiles(t *testing.T) {
	var out bytes.Buffer
	welcome(&out, running{cfg: app.Default(), dir: ".local", devIssuer: true, logKey: "log+key"})
	text := out.String()
	require.Contains(t, text, "Data and logs are in .local.\n")
	_, rest, found := strings.Cut(text, "cat > .local/hello.go <<'END'\n")
	require.True(t, found, text)
	program, rest, found := strings.Cut(rest, "\nEND\n")
	require.True(t, found, text)
	require.Contains(t, rest, "go run .local/hello.go\n")
	require.NotContains(t, text, "\t", "a pasted tab completes file names")

	path := filepath.Join(t.TempDir(), "hello.go")
	require.NoError(t, os.WriteFile(path, []byte(program), 0o600))
	built, err := exec.CommandContext(t.Context(), "go", "build", "-o", os.DevNull, path).CombinedOutput()
	require.NoError(t, err, string(built))
}
