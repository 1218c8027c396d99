package main

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// maxSize bounds the binary: auditors send it by mail.
const maxSize = 10 << 20

// golang runs the go command in this folder and returns its output.
func golang(t *testing.T, env []string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "go %s\n%s", strings.Join(args, " "), stderr.String())
	return string(out)
}

// The auditor's program must not be able to open a connection, a database or
// another program.
func TestDependencies(t *testing.T) {
	forbidden := regexp.MustCompile(`^(net|net/http|net/rpc|crypto/tls|crypto/x509|database/sql|os/exec|plugin)(/.*)?$` +
		`|aws|azure|cloud\.google|minio|spf13|pgx|sqlite|redis|grpc|/services/(records|blob|bus|internal|app|evidence|capture|dev)`)
	deps := strings.Fields(golang(t, []string{"CGO_ENABLED=0"}, "list", "-deps", "."))
	require.Contains(t, deps, "github.com/openova-io/bp-relay/services/verify")
	for _, d := range deps {
		// html/template parses URLs: no network code.
		if d == "net/url" || d == "net/netip" {
			continue
		}
		require.False(t, forbidden.MatchString(d), "relay-verify depends on %s", d)
	}
	for _, own := range []string{"format", "verify"} {
		for d := range strings.FieldsSeq(golang(t, nil, "list", "-deps", "../../"+own+"/...")) {
			if name, ours := strings.CutPrefix(d, "github.com/openova-io/bp-relay/"); ours {
				require.Regexp(t, "^services/(format|"+own+")/?", name, "%s imports more of the repository than it may", own)
			}
		}
	}
}

func TestBuildIsStaticStrippedAndSmall(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the ELF checks need linux")
	}
	path := filepath.Join(t.TempDir(), "relay-verify")
	golang(t, []string{"CGO_ENABLED=0"}, "build", "-trimpath", "-ldflags=-s -w", "-o", path, ".")
	st, err := os.Stat(path)
	require.NoError(t, err)
	require.Less(t, st.Size(), int64(maxSize))

	f, err := elf.Open(path)
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	for _, p := range f.Progs {
		require.NotEqual(t, elf.PT_INTERP, p.Type, "needs a dynamic linker")
	}
	require.Nil(t, f.Section(".symtab"), "not stripped")
	require.Nil(t, f.Section(".debug_info"), "not stripped")

	out, err := exec.CommandContext(t.Context(), path, "--help").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "relay-verify --key KEY")
	out, err = exec.CommandContext(t.Context(), path, "missing.tar").CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 2, exit.ExitCode(), "%s", out)
}

func TestBuildsForTheBrowser(t *testing.T) {
	golang(t, []string{"CGO_ENABLED=0", "GOOS=js", "GOARCH=wasm"}, "build", "-trimpath", "-o", filepath.Join(t.TempDir(), "verify.wasm"), ".")
}
