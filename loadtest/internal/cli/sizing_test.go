package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/sizing"
)

// TestSizingMistakes: errors that would spoil a sweep are found before it begins.
func TestSizingMistakes(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain.md")
	require.NoError(t, os.WriteFile(plain, []byte("# nothing\n"), 0o644))
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"no document", []string{"--doc", filepath.Join(dir, "none.md")}, "--doc"},
		{"no markers", []string{"--doc", plain}, "<!-- sizing: cores begin -->"},
		{"no such figures", []string{"--doc", "", "--from", filepath.Join(dir, "none.json")}, "none.json"},
		{"an argument", []string{"smoke"}, "want none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out, errs := do(append([]string{"sizing", "--json", "", "--pictures", ""}, c.args...)...)
			require.Equal(t, 2, code, "%s%s", out, errs)
			require.Contains(t, errs, c.want)
		})
	}
}

// TestSizingAgain: a file's figures become a document and pictures, and the file
// does not change.
func TestSizingAgain(t *testing.T) {
	dir := t.TempDir()
	figures, doc := filepath.Join(dir, "f.json"), filepath.Join(dir, "d.md")
	const data = `{"schema":"` + sizing.Schema + `","machine":{"cores":2},"points":[{"series":"direct","subscribers":10,"verdict":"pass","busy":0.2,
"sfu":{"cores":0.5,"cpu_s_per_gbit":3}},{"series":"direct","subscribers":20,"verdict":"fail","busy":0.4,"sfu":{"cores":0.9,"cpu_s_per_gbit":3}}]}`
	require.NoError(t, os.WriteFile(figures, []byte(data), 0o644))
	template, err := os.ReadFile("../../../docs/sizing.md")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(doc, template, 0o644))
	code, out, errs := do("sizing", "--from", figures, "--json", figures, "--doc", doc, "--pictures", filepath.Join(dir, "p"))
	require.Zero(t, code, "%s%s", out, errs)
	written, err := os.ReadFile(doc)
	require.NoError(t, err)
	require.Contains(t, string(written), "| **fail** |")
	svg, err := os.ReadFile(filepath.Join(dir, "p", "sizing-direct.svg"))
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(svg), "<svg "))
	raw, err := os.ReadFile(figures)
	require.NoError(t, err)
	require.Equal(t, data, string(raw))
}
