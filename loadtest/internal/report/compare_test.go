package report_test

import (
	"bytes"
	"encoding/json"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/report"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/result/sample"
)

func compared(t *testing.T, a, b *result.Report) string {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, report.Compare(&out, a, b))
	return out.String()
}

// lineOf returns the table's line of a path and a figure, with single blanks.
func lineOf(t *testing.T, table, path, figure string) string {
	t.Helper()
	blanks := regexp.MustCompile(` +`)
	for l := range strings.Lines(table) {
		l = strings.TrimSpace(blanks.ReplaceAllString(l, " "))
		if strings.HasPrefix(l, path+" "+figure+" ") {
			return l
		}
	}
	require.Fail(t, "no line", "%s %s in\n%s", path, figure, table)
	return ""
}

// slower makes a path slower by a factor, in its histogram and by the second.
func slower(r *result.Report, path string, factor float64) {
	h := result.NewHist()
	for _, b := range r.Path(path).Latency.Bars() {
		h.RecordN(time.Duration(float64(b.From)*factor), b.Count)
	}
	r.Path(path).Latency = h
	for _, pt := range r.Timeline {
		for i := range pt.Paths {
			if pt.Paths[i].Name == path {
				pt.Paths[i].LatencyP50Ms *= factor
				pt.Paths[i].LatencyP99Ms *= factor
			}
		}
	}
}

func TestCompareTellsBetterFromWorse(t *testing.T) {
	a, b := sample.Report(1), sample.Report(2)
	slower(b, "turn-udp", 1.5)
	slower(b, "direct", .5)
	table := compared(t, a, b)
	require.Regexp(t, ` worse p<0\.001, n=10\+10$`, lineOf(t, table, "turn-udp", "latency p99"))
	require.Regexp(t, ` better p<0\.001, n=10\+10$`, lineOf(t, table, "direct", "latency p50"))
	require.Contains(t, lineOf(t, table, "turn-udp", "latency p50"), "+1.05 ms +50")
	require.Contains(t, lineOf(t, table, "sfu", "cores"), "within noise")
	require.Contains(t, lineOf(t, table, "direct", "time to join p99"), "too few values")

	back := compared(t, b, a)
	require.Contains(t, lineOf(t, back, "turn-udp", "latency p99"), "better")
}

// TestCompareSameLoad: runs that differ only by chance count as equal.
func TestCompareSameLoad(t *testing.T) {
	wrong, lines := 0, 0
	for seed := range uint64(8) {
		for l := range strings.Lines(compared(t, sample.Report(2*seed), sample.Report(2*seed+1))) {
			if strings.Contains(l, "within noise  ") {
				lines++
			} else if strings.Contains(l, " better  ") || strings.Contains(l, " worse  ") {
				wrong++
			}
		}
	}
	require.Less(t, float64(wrong), .05*float64(lines), "%d of %d figures differed by chance", wrong, lines)
}

func TestCompareWithItself(t *testing.T) {
	r := sample.Report(1)
	require.Contains(t, compared(t, r, r), "0 better, 0 worse, 0 within noise")
}

func TestCompareRefusesToJudge(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*result.Report)
		want   string
	}{
		"another scenario":   {func(r *result.Report) { r.Scenario = json.RawMessage(`{"seed":8}`) }, "the scenarios differ in"},
		"another machine":    {func(r *result.Report) { r.Parts[0].Cores = 64 }, "the machines differ"},
		"inconclusive":       {func(r *result.Report) { r.Verdict.Result = result.Inconclusive }, `the verdict of B is "inconclusive"`},
		"a run that failed":  {func(r *result.Report) { r.Verdict.Result = result.Broken }, `the verdict of B is "error"`},
		"another kind":       {func(r *result.Report) { r.Kind = result.KindAPI }, "of kind media and B of kind api"},
		"a run cut short":    {func(r *result.Report) { r.Seconds /= 2 }, "A lasted 2 min and B 1 min"},
		"a scenario in text": {func(r *result.Report) { r.Scenario = json.RawMessage(`"x"`) }, "the scenarios differ"},
	} {
		t.Run(name, func(t *testing.T) {
			b := sample.Report(2)
			slower(b, "direct", 3)
			c.change(b)
			table := compared(t, sample.Report(1), b)
			require.Contains(t, table, "NOT COMPARABLE: ")
			require.Contains(t, table, c.want)
			require.Contains(t, lineOf(t, table, "direct", "latency p99"), "not comparable")
			require.NotContains(t, table, " worse ")
			_, doc := page(t, func(w io.Writer) error { return report.CompareHTML(w, sample.Report(1), b) })
			require.Contains(t, text(doc), "Not comparable")
			require.Contains(t, text(doc), c.want)
		})
	}
}

func TestCompareRemarks(t *testing.T) {
	b := sample.Report(2)
	b.Parts[0].Host, b.Tool.Version = "other", "v0.4.0"
	b.Scenario = json.RawMessage(strings.Replace(string(b.Scenario), `150ms`, `90ms`, 1))
	b.Paths = b.Paths[:2]
	table := compared(t, sample.Report(1), b)
	require.NotContains(t, table, "NOT COMPARABLE")
	require.Contains(t, table, "note: the scenarios differ in [thresholds], which does not change the load")
	require.Contains(t, table, "note: the hosts have different names")
	require.Contains(t, table, "note: the programs differ: relay-loadtest v0.3.0 (go1.26.0) and relay-loadtest v0.4.0")
	require.Contains(t, lineOf(t, table, "turn-tcp", "latency p99"), "only in A")
}

// TestCompareOneGeneratorWithMany: the cost of a Gbit does not grow with the
// number of generators that share the load.
func TestCompareOneGeneratorWithMany(t *testing.T) {
	one, many := sample.Report(1), sample.Report(1)
	i := slices.IndexFunc(many.Processes, func(p result.Usage) bool { return p.Name == result.Generator })
	require.GreaterOrEqual(t, i, 0)
	require.NotNil(t, many.Processes[i].CPUSecondsPerGbit)
	many.Processes[i].CPUSeconds /= 4
	for range 3 {
		many.Processes = append(many.Processes, many.Processes[i])
	}
	require.NotContains(t, compared(t, one, many), "processor time per Gbit", "the same")
	// One of them costs twice as much, for an equal share of the traffic.
	twice := 2 * *one.Processes[i].CPUSecondsPerGbit
	many.Processes[i].CPUSeconds *= 2
	many.Processes[i].CPUSecondsPerGbit = &twice
	require.Contains(t, lineOf(t, compared(t, one, many), "generator", "processor time per Gbit"), "+25")
}
