package judge_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/judge"
)

const begin, end = "<!-- metrics: made by judge/docs_test.go -->\n", "<!-- end of metrics -->\n"

// table is the documentation of all metrics, with one row per distribution.
func table() string {
	var b strings.Builder
	b.WriteString("| metric | unit | kinds | what it is |\n|---|---|---|---|\n")
	done := map[string]bool{}
	for _, m := range judge.Metrics() {
		name, text := m.Name, m.Text
		if i := strings.LastIndexByte(m.Name, '_'); m.Unit == judge.UnitMs {
			stats := []string{"min", "mean", "p50", "p90", "p95", "p99", "p999", "max"}
			if done[m.Name[:i]] || !slices.Contains(stats, m.Name[i+1:]) {
				continue
			}
			done[m.Name[:i]] = true
			text, _, _ = strings.Cut(text, ": ")
			for j, s := range stats {
				stats[j] = "`" + m.Name[:i] + "_" + s + "`"
			}
			name = strings.Trim(strings.Join(stats, " "), "`")
		}
		unit, kinds := m.Unit, strings.Join(m.Kinds, ", ")
		if unit == judge.UnitCount {
			unit = "count"
		}
		if kinds == "" {
			kinds = "all"
		}
		if m.Global {
			kinds += "; without a path"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, unit, kinds, text)
	}
	return b.String()
}

// The documentation has every metric. UPDATE_DOCS=1 writes it.
func TestMetricsAreDocumented(t *testing.T) {
	const file = "../../../docs/scenarios.md"
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(text), begin)
	require.True(t, ok, "no line %q", begin)
	got, after, ok := strings.Cut(rest, end)
	require.True(t, ok, "no line %q", end)
	if os.Getenv("UPDATE_DOCS") != "" {
		require.NoError(t, os.WriteFile(file, []byte(before+begin+table()+end+after), 0o644))
		return
	}
	require.Equal(t, table(), got, "write it again with UPDATE_DOCS=1 go test ./internal/judge")
	for _, m := range judge.Metrics() {
		require.Contains(t, got, "`"+m.Name+"`")
	}
}
