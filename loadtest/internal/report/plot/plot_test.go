package plot_test

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/report/plot"
)

func labels(s plot.Scale) string {
	var out []string
	for _, t := range s.Ticks {
		out = append(out, t.Label)
	}
	return strings.Join(out, " ")
}

func TestScales(t *testing.T) {
	require.Equal(t, "0 20 40 60 80 100", labels(plot.Linear(0, 100, 5, plot.Short)))
	require.Equal(t, "-1 -0.5 0 0.5 1", labels(plot.Linear(-1, 1, 4, plot.Short)))
	require.Equal(t, "1 2 5 10 20 50 100", labels(plot.Log(1, 100, plot.Short)))
	require.Equal(t, "0% 50% 90% 99% 99.9% 99.99%", labels(plot.Nines(4)))

	nines := plot.Nines(2)
	require.InDelta(t, .5, nines.Pos(.9), 1e-9)
	require.InDelta(t, 1, nines.Pos(.99), 1e-9)
	require.Equal(t, 1.0, nines.Pos(1), "what lies beyond is held at the edge")
	require.InDelta(t, .5, plot.Log(1, 100, plot.Short).Pos(10), 1e-9)
	require.InDelta(t, .25, plot.Linear(0, 8, 4, plot.Short).Pos(2), 1e-9)
}

// TestScalesOfAnything: for any numbers, an axis ends and positions lie within
// it.
func TestScalesOfAnything(t *testing.T) {
	odd := []float64{0, 1, -1, 1e-300, 1e300, math.MaxFloat64, math.Inf(1), math.Inf(-1), math.NaN()}
	for _, lo := range odd {
		for _, hi := range odd {
			for _, s := range []plot.Scale{plot.Linear(lo, hi, 5, plot.Short), plot.Log(lo, hi, plot.Short), plot.Linear(0, plot.Ceil(hi), 5, plot.Short)} {
				require.Less(t, len(s.Ticks), 2000)
				for _, v := range odd {
					require.True(t, s.Pos(v) >= 0 && s.Pos(v) <= 1)
				}
			}
		}
	}
}

func TestCeil(t *testing.T) {
	for v, want := range map[float64]float64{0: 1, 7: 8, 100: 100, 101: 150, .031: .04, 999: 1000} {
		require.InDelta(t, want, plot.Ceil(v), 1e-9, "%v", v)
	}
}

func TestNumbers(t *testing.T) {
	for v, want := range map[float64]string{0: "0 bit/s", 999: "999 bit/s", 1e3: "1 kbit/s", 1.7e6: "1.7 Mbit/s", 2.54e9: "2.54 Gbit/s", 5e15: "5000 Tbit/s"} {
		require.Equal(t, want, plot.Number(v, "bit/s"))
	}
	for v, want := range map[float64]string{0: "0", .00002: "2.0e-05", .00123: "0.0012", .5: "0.5", 9.876: "9.88", 99.94: "99.9", 1234: "1234", -2.5: "-2.5"} {
		require.Equal(t, want, plot.Short(v))
	}
	for v, want := range map[float64]string{0: "0:00", 65: "1:05", 3661: "1:01:01", -10: "−0:10"} {
		require.Equal(t, want, plot.Clock(v))
	}
}

func TestChart(t *testing.T) {
	zero := 0.0
	c := plot.Chart{
		ID: "x", Title: "<b>", About: "what", X: plot.Linear(-10, 90, 5, plot.Clock), Y: plot.Linear(0, 10, 2, plot.Short), Before: &zero,
		Lines: []plot.Line{
			{Name: "line", Slot: 1, Points: []plot.XY{{-10, 0}, {90, 10}}},
			{Name: "stairs", Slot: 8, Steps: true, Points: []plot.XY{{-10, 0}, {90, 10}}},
		},
		XText: plot.Clock, YText: plot.Short,
	}
	svg, err := c.SVG()
	require.NoError(t, err)
	require.Contains(t, string(svg), `class="line s1" d="M74 234L618 12"`)
	require.Contains(t, string(svg), `class="line s2" d="M74 234H618V12"`, "slots go round")
	require.Contains(t, string(svg), `<rect class="warmup" x="74" y="12" width="54.4" height="222"`)
	require.Contains(t, string(svg), "&lt;b&gt;")
	require.NotContains(t, string(svg), "<b>")
}
