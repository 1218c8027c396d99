package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// clone makes a workspace with one program in it.
func clone(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for path, body := range map[string]string{
		"go.work":              "go 1.26.0\n\nuse ./services\n",
		"deploy/local/README":  "",
		"services/go.mod":      "module example.org/services\n\ngo 1.26.0\n",
		"services/cmd/main.go": "package main\n\nfunc main() {}\n",
	} {
		path = filepath.Join(dir, path)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(body), 0o644))
	}
	t.Chdir(dir)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("GOWORK", "")
	return dir
}

func setUp(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

func TestProgramIsBuiltAndThenKeptUpToDate(t *testing.T) {
	dir := clone(t)
	code, out, errs := setUp(t, "bin/it=./services/cmd,static")
	require.Zero(t, code, errs)
	require.FileExists(t, filepath.Join(dir, "bin", "it"))
	require.Contains(t, out, "Missing: 1 of 1. ")
	require.Contains(t, out, "[1/1] it built in ")
	require.Contains(t, out, "Got 1 of 1 in ")

	code, out, _ = setUp(t, "bin/it=./services/cmd,static")
	require.Zero(t, code)
	require.Empty(t, out, "up to date: nothing to say")

	source := filepath.Join(dir, "services", "cmd", "main.go")
	require.NoError(t, os.WriteFile(source, []byte("package main\n\nfunc main() { println(1) }\n"), 0o644))
	code, out, _ = setUp(t, "bin/it=./services/cmd,static")
	require.Zero(t, code)
	require.Contains(t, out, "[1/1] it built in ")

	require.NoError(t, os.WriteFile(source, []byte("package main\n\nfunc main() { no such }\n"), 0o644))
	code, out, errs = setUp(t, "bin/it=./services/cmd,static")
	require.Equal(t, 1, code)
	require.Contains(t, out, "main.go:3", "the compiler's words are shown")
	require.Contains(t, errs, "the whole output is in ")
}

// TestPlanLooksAtTheBuildCache: a fresh clone on a machine that has compiled the
// program before is not announced as minutes of work.
func TestPlanLooksAtTheBuildCache(t *testing.T) {
	dir := clone(t)
	t.Setenv("GOCACHE", t.TempDir())
	_, cold, errs := setUp(t, "bin/it=./services/cmd,static")
	require.Contains(t, cold, "  it                 this repository, compiled, about 4 min, ", errs)
	require.Contains(t, cold, "in Go's module and build caches")

	require.NoError(t, os.RemoveAll(filepath.Join(dir, "bin")))
	_, warm, errs := setUp(t, "bin/it=./services/cmd,static")
	require.Contains(t, warm, "  it                 this repository, compiled, about 20 s, ", errs)
	require.NotContains(t, warm, "in Go's module and build caches")
}

func TestUsage(t *testing.T) {
	clone(t)
	for _, args := range [][]string{{"bin/it"}, {"=./services/cmd"}, {"bin/it=services/cmd"}, {"--nosuch"}, {"--parts", "some"}} {
		code, out, errs := setUp(t, args...)
		require.Equal(t, 2, code)
		require.Empty(t, out)
		require.NotEmpty(t, errs)
	}
}
