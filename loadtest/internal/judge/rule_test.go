package judge_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/judge"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"latency_p99 < 150ms":             "latency_p99 < 150ms",
		"latency_p99<0.15s":               "latency_p99 < 150ms",
		"latency_p999 <= 1m":              "latency_p999 <= 60000ms",
		"p(99)<150":                       "latency_p99 < 150ms",
		"p(99.9) < 200":                   "latency_p999 < 200ms",
		"avg<20":                          "latency_mean < 20ms",
		"med < 20":                        "latency_p50 < 20ms",
		"max<1000":                        "latency_max < 1000ms",
		"turn-udp.p(95) < 80":             "turn-udp.latency_p95 < 80ms",
		"join_p(95)<2s":                   "join_p95 < 2000ms",
		"each.call_avg < 5ms":             "each.call_mean < 5ms",
		"loss < 0.1%":                     "loss < 0.1%",
		"turn-udp.loss<0.001":             "turn-udp.loss < 0.1%",
		"total.loss == 0":                 "loss == 0%",
		"each.loss_publisher <= 7 %":      "each.loss_publisher <= 7%",
		"bitrate > 1.5Mbps":               "bitrate > 1.5Mbps",
		"bitrate >= 300000":               "bitrate >= 300kbps",
		"freezes < 0.5":                   "freezes < 0.5",
		"rate > 100":                      "rate > 100",
		"sfu_cores < 1.5":                 "sfu_cores < 1.5",
		"reconnects == 0":                 "reconnects == 0",
		"loss < 5% abort(10s)":            "loss < 5% abort(10s)",
		"loss < 5%\tabort":                "loss < 5% abort(0s)",
		"loss<5% abort( 1m30s )":          "loss < 5% abort(1m30s)",
		"first_packet_mean < 12.345678ms": "first_packet_mean < 12.345678ms",
	} {
		rule, err := judge.Parse(text)
		require.NoError(t, err, text)
		require.Equal(t, want, rule.String(), text)
	}
}

func TestParseReadsTheParts(t *testing.T) {
	rule, err := judge.Parse("turn-tls.first_frame_p90 <= 1.5s abort(20s)")
	require.NoError(t, err)
	require.Equal(t, "turn-tls", rule.Path)
	require.Equal(t, "first_frame_p90", rule.Metric.Name)
	require.Equal(t, "<=", rule.Op)
	require.InDelta(t, 1500, rule.Value, 1e-9)
	require.True(t, rule.Abort)
	require.Equal(t, 20*time.Second, rule.Delay)
}

func TestParseRefuses(t *testing.T) {
	for text, says := range map[string]string{
		"":                       "write [path.]metric op value",
		"latency_p99":            "write [path.]metric op value",
		"< 5":                    "write [path.]metric op value",
		"loss <":                 "write [path.]metric op value",
		"loss != 1%":             "operators are",
		"loss = 1%":              "operators are",
		"loss < 150ms":           "loss is in %",
		"loss < 1.5":             "100% or more",
		"loss < 1":               "100% or more",
		"loss < -1%":             "below 0",
		"latency_p99 < 1%":       "want a duration",
		"latency_p98 < 1s":       "there is latency_min",
		"latencyp99 < 1s":        "docs/scenarios.md",
		".loss < 1%":             "write [path.]metric op value",
		"turn-udp.sfu_cores < 1": "of the whole run",
		"bitrate > fast":         "not a bit rate",
		"rate > NaN":             "not a number",
		"loss < 1% abort(soon)":  "want abort or abort(10s)",
		"loss < 1% abort(-1s)":   "want abort or abort(10s)",
		"loss < 1% abort 10s":    "want abort or abort(10s)",
		"abort":                  "write [path.]metric op value",
		"loss < 1% or 2%":        "not a share",
		"p(42) < 3":              "unknown metric",
	} {
		_, err := judge.Parse(text)
		require.Error(t, err, text)
		require.Contains(t, err.Error(), says, text)
	}
	_, err := judge.Parse("loss")
	require.ErrorIs(t, err, judge.ErrRule)
}

func TestHolds(t *testing.T) {
	for _, c := range []struct {
		expr             string
		below, at, above bool
	}{
		{"loss < 7%", true, false, false}, {"loss <= 7%", true, true, false},
		{"loss > 7%", false, false, true}, {"loss >= 7%", false, true, true}, {"loss == 7%", false, true, false},
	} {
		rule, err := judge.Parse(c.expr)
		require.NoError(t, err)
		require.Equal(t, c.below, rule.Holds(6.99), c.expr)
		require.Equal(t, c.at, rule.Holds(7.0/100*100), c.expr) // 7.000000000000001
		require.Equal(t, c.above, rule.Holds(7.01), c.expr)
	}
}

// Every metric has a description and a unique name, and Parse accepts it.
func TestMetricsAreWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range judge.Metrics() {
		require.NotEmpty(t, m.Text, m.Name)
		require.False(t, seen[m.Name], m.Name)
		seen[m.Name] = true
		require.Equal(t, strings.ToLower(m.Name), m.Name)
		_, err := judge.Parse(m.Name + " < 0.5")
		require.NoError(t, err, m.Name)
	}
}

// Parse accepts String's form of every rule it accepts, with the same meaning.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"latency_p99 < 150ms", "each.loss<0.1% abort(10s)", "p(99.9)<5", "bitrate > 1.7Mbps", "rate >= 1e3", "a.b.c < 1", "loss == 0 abort"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		rule, err := judge.Parse(text)
		if err != nil {
			return
		}
		again, err := judge.Parse(rule.String())
		require.NoError(t, err, rule.String())
		require.Equal(t, rule.String(), again.String())
		require.InEpsilon(t, rule.Value+1, again.Value+1, 1e-9)
		require.Equal(t, rule.Delay, again.Delay)
	})
}
