package report

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/result"

	"github.com/openova-io/bp-relay/loadtest/internal/report/plot"
)

// percentiles is HdrHistogram's plot: the further right, the rarer. Each line
// ends where its distribution has no further values.
func percentiles(id, title, what string, hists []named) *plot.Chart {
	if len(hists) == 0 {
		return nil
	}
	steps, top := 1, 0.0
	var lines []plot.Line
	var about strings.Builder
	about.WriteString("The least time that the slowest share took.")
	for _, n := range hists {
		nines := math.Log10(float64(n.h.Count()))
		steps = max(steps, min(int(math.Ceil(nines)), 6))
		l := plot.Line{Name: n.name, Slot: n.slot}
		for k := 0.0; k <= math.Min(nines, 6); k += .05 {
			q := 1 - math.Pow(10, -k)
			ms := result.Ms(n.h.Quantile(q))
			l.Points = append(l.Points, plot.XY{X: q, Y: ms})
			top = math.Max(top, ms)
		}
		lines = append(lines, l)
		about.WriteString(fmt.Sprintf(" %s: median %s, p99 %s, longest %s, of %s.", n.name, millis(result.Ms(n.h.Quantile(.5))), millis(result.Ms(n.h.Quantile(.99))), millis(result.Ms(n.h.Max())), count(n.h.Count())))
	}
	return &plot.Chart{
		ID: "rank-" + id, Title: title + " by percentile", About: about.String(),
		X: plot.Nines(steps), Y: plot.Linear(0, plot.Ceil(top), 5, millis),
		XLabel: "share of the " + what + " that were faster", Lines: lines,
		XText: func(q float64) string { return "fastest " + quantileText(q) }, YText: millis,
	}
}

func quantileText(q float64) string {
	digits := 1
	if q < 1 {
		digits = max(int(math.Ceil(-math.Log10(1-q)))-1, 1)
	}
	return fmt.Sprintf("%.*f%%", min(digits, 6), q*100)
}

// perDecade is the number of bars between two powers of ten.
const perDecade = 20

// shares is the distribution on a logarithmic axis: where most values lie, and
// whether there are two humps.
func shares(id, title, what string, hists []named) *plot.Chart {
	if len(hists) == 0 {
		return nil
	}
	lo, hi, top := math.Inf(1), 0.0, 0.0
	var lines []plot.Line
	for _, n := range hists {
		// Few values would leave gaps between bars, so there are fewer bars.
		per := float64(perDecade)
		if n.h.Count() < 1000 {
			per = 10
		}
		bins := map[int]int64{}
		first, last := math.MaxInt, math.MinInt
		for _, b := range n.h.Bars() {
			ms := math.Max(float64((b.From+b.To)/2)/float64(time.Millisecond), .001)
			at := int(math.Floor(math.Log10(ms) * per))
			bins[at] += b.Count
			first, last = min(first, at), max(last, at)
		}
		edge := func(i int) float64 { return math.Pow(10, float64(i)/per) }
		l := plot.Line{Name: n.name, Slot: n.slot, Steps: true, Points: []plot.XY{{X: edge(first), Y: 0}}}
		// H then V: the height of a bar is drawn at its left edge.
		for i := first; i <= last; i++ {
			share := float64(bins[i]) / float64(n.h.Count())
			l.Points = append(l.Points, plot.XY{X: edge(i), Y: share})
			top = math.Max(top, share)
		}
		l.Points = append(l.Points, plot.XY{X: edge(last + 1), Y: 0})
		lines = append(lines, l)
		lo, hi = math.Min(lo, edge(first)), math.Max(hi, edge(last+1))
	}
	return &plot.Chart{
		ID: "share-" + id, Title: title + ": distribution",
		About: "Share of all " + what + " by their time, on a logarithmic axis.",
		X:     plot.Log(lo, hi, millis), Y: plot.Linear(0, plot.Ceil(top), 5, percent),
		XLabel: "time (logarithmic)", Lines: lines,
		XText: func(v float64) string { return "from " + millis(v) }, YText: func(v float64) string { return percent(v) + " of " + what },
	}
}
