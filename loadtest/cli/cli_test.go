package cli_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/cli"
	"github.com/openova-io/bp-relay/loadtest/report"
)

// do runs the command line and returns its exit code and what it printed.
func do(args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = cli.Main(args, strings.NewReader(""), &o, &e)
	return code, o.String(), e.String()
}

func TestMistakes(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	require.NoError(t, os.WriteFile(bad, []byte("rooms: {count: 1, publishrs: 2}\n"), 0o644))
	for _, c := range []struct {
		name string
		args []string
		want string // in what is printed
	}{
		{"no scenario", []string{"run"}, "arg"},
		{"unknown scenario", []string{"run", "nonesuch"}, "smoke"},
		{"unknown key", []string{"run", bad}, "publishers"},
		{"unknown flag", []string{"run", "smoke", "--nonesuch"}, "nonesuch"},
		{"two targets", []string{"run", "smoke", "--local", "--livekit", "ws://127.0.0.1:1"}, "--livekit"},
		{"bad threshold", []string{"run", "smoke", "--threshold", "latency < "}, "threshold"},
		{"plan without cost", []string{"plan", "smoke"}, "--from"},
		{"merge of nothing", []string{"report", "merge"}, "--run"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out, errs := do(c.args...)
			require.Equal(t, 2, code, "%s%s", out, errs)
			require.Contains(t, out+errs, c.want)
		})
	}
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

// TestRun: a real run that breaks a threshold, and what is made of its report.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	scenario := file("small.yaml")
	require.NoError(t, os.WriteFile(scenario, []byte(`
rooms: {count: 1, publishers: 1, subscribers: 2}
media: {clip: 2s, video: {codec: vp8, width: 320, height: 180, fps: 15, bitrate: 150kbps}, audio: {}}
load: {warmup: 1s, hold: 3s}
`), 0o644))
	code, out, errs := do("run", scenario, "--local", "--quiet", "--threshold", "latency_min < 1us", "--json", file("a.json"), "--html", file("a.html"))
	// 99, or on a machine that is short of breath 3; never a pass.
	require.Contains(t, []int{99, 3}, code, "%s%s", out, errs)
	f, err := os.Open(file("a.json"))
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	rep, err := report.Read(f)
	require.NoError(t, err)
	require.Equal(t, 2, rep.Total.Subscribers)
	require.Len(t, rep.Thresholds, 1)
	require.False(t, rep.Thresholds[0].Passed)
	page, err := os.ReadFile(file("a.html"))
	require.NoError(t, err)
	require.Contains(t, string(page), "<svg")

	code, out, errs = do("report", "show", file("a.json"))
	require.Zero(t, code, errs)
	require.Contains(t, out, "direct")
	code, out, errs = do("report", "compare", file("a.json"), file("a.json"), "--html", file("c.html"))
	require.Zero(t, code, "%s%s", out, errs)
	code, out, errs = do("plan", scenario, "--from", file("a.json"), "--subscribers", "10000", "--job", file("job.yaml"), "--run", "nightly")
	require.Zero(t, code, "%s%s", out, errs)
	require.Contains(t, out, "workers")
	job, err := os.ReadFile(file("job.yaml"))
	require.NoError(t, err)
	require.Contains(t, string(job), "completionMode: Indexed")
}
