package prom_test

import (
	"io"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/report/prom"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/result/sample"
)

func scrape(t *testing.T, r *result.Report) string {
	t.Helper()
	w := httptest.NewRecorder()
	prom.Handler(func() *result.Report { return r }).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	require.Equal(t, 200, w.Code, w.Body)
	out, err := io.ReadAll(w.Body)
	require.NoError(t, err)
	return string(out)
}

func TestShowsTheReport(t *testing.T) {
	r := sample.Report(1)
	r.Timeline[len(r.Timeline)-1].Paths[0].Participants = 44
	out := scrape(t, r)
	for _, want := range []string{
		`relay_loadtest_up 1`,
		`relay_loadtest_participants{path="direct"} 44`,
		`relay_loadtest_self_dropped_packets_total 6`,
		`relay_loadtest_joins_succeeded_total{path="total"} 124`,
		`relay_loadtest_process_resident_bytes{process="sfu"} 2.2020096e+08`,
	} {
		require.Contains(t, out, want+"\n")
	}
}

func TestHistogramsAreExactToThreeDigits(t *testing.T) {
	r := &result.Report{Total: result.Path{Latency: result.NewHist()}}
	r.Total.Latency.RecordN(90*time.Microsecond, 2)
	r.Total.Latency.RecordN(2*time.Millisecond, 5)
	r.Total.Latency.RecordN(2100*time.Microsecond, 7)
	r.Total.Latency.RecordN(time.Minute, 1)
	out := scrape(t, r)
	for _, want := range []string{
		`latency_seconds_bucket{path="total",le="0.0001"} 2`, `latency_seconds_bucket{path="total",le="0.001"} 2`,
		`latency_seconds_bucket{path="total",le="0.002"} 7`, `latency_seconds_bucket{path="total",le="0.003"} 14`,
		`latency_seconds_bucket{path="total",le="30"} 14`, `latency_seconds_bucket{path="total",le="+Inf"} 15`,
		`latency_seconds_count{path="total"} 15`,
	} {
		require.Contains(t, out, "relay_loadtest_"+want+"\n")
	}
}

func TestBeforeTheRun(t *testing.T) {
	require.Contains(t, scrape(t, nil), "relay_loadtest_up 0\n")
	require.NotContains(t, scrape(t, nil), "path=")
	require.Contains(t, scrape(t, &result.Report{}), "relay_loadtest_up 1\n")
}

func TestMergedReportHasEachSeriesOnce(t *testing.T) {
	r, err := result.Merge(sample.Parts(1, 3))
	require.NoError(t, err)
	require.Contains(t, scrape(t, r), `relay_loadtest_joins_succeeded_total{path="total"} 372`)
}

func TestLint(t *testing.T) {
	r := sample.Report(1)
	problems, err := testutil.CollectAndLint(prom.NewCollector(func() *result.Report { return r }))
	require.NoError(t, err)
	require.Empty(t, problems)
}

// TestDocumented: the document lists exactly the existing names, with their help
// and labels.
func TestDocumented(t *testing.T) {
	ch := make(chan *prometheus.Desc, 1000)
	prom.NewCollector(func() *result.Report { return nil }).Describe(ch)
	close(ch)
	have := map[string]string{}
	field := regexp.MustCompile(`fqName: "([^"]+)", help: "([^"]*)".*variableLabels: \{([^}]*)\}`)
	for d := range ch {
		m := field.FindStringSubmatch(d.String())
		require.NotNil(t, m, d.String())
		labels := m[3]
		if labels == "" {
			labels = "–"
		}
		have[m[1]] = strings.ReplaceAll(labels, ",", ", ") + " | " + m[2]
	}
	raw, err := os.ReadFile("../../../../docs/metrics-loadtest.md")
	require.NoError(t, err)
	documented := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(relay_loadtest_[a-z0-9_]+)` \\| (?:gauge|counter|histogram) \\| (.*) \\|$").FindAllStringSubmatch(string(raw), -1) {
		documented[m[1]] = m[2]
	}
	require.Equal(t, have, documented)
}
