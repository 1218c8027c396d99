package report

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/result"

	"golang.org/x/perf/benchmath"
)

// The bounds of noise for runs that have too few values to estimate it.
const (
	nBlocks    = 10  // parts of a run that are compared with each other
	indistinct = .01 // a change below 1% is not a difference, even if significant
	rough      = .1  // single values: a change below 10% counts as noise
	fewest     = 5   // values beyond a quantile; with fewer, it is unknown
	lengths    = .1  // runs whose lengths differ by more are not comparable
)

// within reports whether the difference is noise, and names the test that
// decided.
func within(a, b measured, m metric) (bool, string) {
	change := math.Abs(b.v-a.v) / math.Max(math.Abs(a.v), math.Abs(b.v))
	if change < indistinct {
		return true, "below 1%"
	}
	if len(a.blocks) == nBlocks && len(b.blocks) == nBlocks {
		// The test that benchstat uses; it assumes no distribution.
		sa := benchmath.NewSample(slices.Clone(a.blocks), &benchmath.DefaultThresholds)
		sb := benchmath.NewSample(slices.Clone(b.blocks), &benchmath.DefaultThresholds)
		t := benchmath.AssumeNothing.Compare(sa, sb)
		p := fmt.Sprintf("p=%.3f", t.P)
		if t.P < .001 {
			p = "p<0.001"
		}
		return t.P >= t.Alpha, fmt.Sprintf("%s, n=%d+%d", p, t.N1, t.N2)
	}
	if a.hist != nil && b.hist != nil {
		if n := min(a.hist.Count(), b.hist.Count()); float64(n)*(1-m.q) < fewest {
			return true, fmt.Sprintf("too few values: %d", n)
		}
		la, ha := interval(a.hist, m.q)
		lb, hb := interval(b.hist, m.q)
		if la <= hb && lb <= ha {
			return true, "95% intervals overlap"
		}
		// Values of one run are correlated, so a narrow interval alone is not
		// enough.
		return change < rough, "95% intervals, 10%"
	}
	if m.unit == unitCount && m.group != "Participants" {
		return change < rough || math.Abs(b.v-a.v) < 3*math.Sqrt(a.v+b.v), "counts, 3σ and 10%"
	}
	return m.better != either && change < rough, "single values, 10%"
}

// interval is the 95% confidence interval of a quantile, from the ranks that a
// binomial distribution gives (distribution-free).
func interval(h *result.Hist, q float64) (lo, hi time.Duration) {
	n := float64(h.Count())
	d := 1.96 * math.Sqrt(q*(1-q)/n)
	return h.Quantile(max(q-d, 0)), h.Quantile(min(q+d, 1))
}

// blocks returns the averages of nBlocks parts of a run: neighbouring seconds are
// correlated, blocks hardly. It returns none if a block would have fewer than
// three seconds.
func blocks(seconds []float64) []float64 {
	if len(seconds) < 3*nBlocks {
		return nil
	}
	var out []float64
	for i := range nBlocks {
		part := seconds[i*len(seconds)/nBlocks : (i+1)*len(seconds)/nBlocks]
		sum := 0.0
		for _, v := range part {
			sum += v
		}
		out = append(out, sum/float64(len(part)))
	}
	return out
}

// seriesOf returns a figure of each measured second. Those of the total are the
// sums of the paths'; the total's latencies per second are unknown.
func seriesOf(r *result.Report, path string, m metric) []float64 {
	if path == result.Total && m.dist != nil {
		return nil
	}
	var out []float64
	for _, pt := range r.Timeline {
		if pt.T < 0 {
			continue
		}
		var sum result.PointPath
		there := false
		for _, v := range pt.Paths {
			if v.Name == path || path == result.Total && v.Name != result.Total {
				v.Name = ""
				if !there {
					sum, there = v, true
				} else {
					result.Add(&sum, v)
				}
			}
		}
		if there {
			out = append(out, m.series(sum))
		}
	}
	return out
}

func processNames(a, b *result.Report) []string {
	names := map[string]bool{}
	for _, p := range slices.Concat(a.Processes, b.Processes) {
		names[p.Name] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// processMetrics are the figures of all processes that share a name.
func processMetrics(name string) []metric {
	total := func(f func(result.Usage) float64) func(*result.Report, *result.Path) (float64, bool) {
		return func(r *result.Report, _ *result.Path) (float64, bool) {
			v, ok := 0.0, false
			for _, p := range r.Processes {
				if p.Name == name {
					v, ok = v+f(p), true
				}
			}
			return v, ok
		}
	}
	seconds := func(r *result.Report) []float64 {
		var out []float64
		for _, pt := range r.Timeline {
			v := 0.0
			for _, c := range pt.CPU {
				if c.Name == name {
					v += c.Cores
				}
			}
			if pt.T >= 0 {
				out = append(out, v)
			}
		}
		return out
	}
	perGbit := func(r *result.Report, _ *result.Path) (float64, bool) {
		// A generator's cost is relative to its own traffic, that of other
		// processes to the traffic of all workers.
		var sum, cpu, gbit float64
		for _, p := range r.Processes {
			if per := p.CPUSecondsPerGbit; p.Name == name && per != nil && *per > 0 {
				sum, cpu, gbit = sum+*per, cpu+p.CPUSeconds, gbit + p.CPUSeconds / *per
			}
		}
		if name == result.Generator && gbit > 0 {
			return cpu / gbit, true
		}
		return sum, sum > 0
	}
	return []metric{
		{name: "cores", unit: unitCores, better: lower, value: total(func(p result.Usage) float64 { return p.Cores }), seconds: seconds},
		{name: "processor time per Gbit", unit: unitCost, better: lower, value: perGbit},
		{name: "peak memory", unit: unitBytes, better: lower, value: total(func(p result.Usage) float64 { return float64(p.PeakBytes) })},
	}
}

// comparability returns the reasons why two reports cannot be compared, and
// remarks about other differences.
func comparability(a, b *result.Report) (not, remarks []string) {
	if a.Kind != b.Kind {
		not = append(not, fmt.Sprintf("A is of kind %s and B of kind %s", a.Kind, b.Kind))
	}
	load, other := scenarioDiff(a.Scenario, b.Scenario)
	if load != nil {
		not = append(not, fmt.Sprintf("the scenarios differ in %v", load))
	}
	if other != nil {
		remarks = append(remarks, fmt.Sprintf("the scenarios differ in %v, which does not change the load", other))
	}
	for _, r := range []struct {
		name string
		r    *result.Report
	}{{"A", a}, {"B", b}} {
		if v := r.r.Verdict.Result; v == result.Inconclusive || v == result.Broken {
			not = append(not, fmt.Sprintf("the verdict of %s is %q: %s", r.name, v, wordsOf(r.r).Means))
		}
	}
	ma, mb := machines(a), machines(b)
	if !slices.Equal(ma, mb) {
		not = append(not, fmt.Sprintf("the machines differ: %v and %v", ma, mb))
	} else if !slices.EqualFunc(a.Parts, b.Parts, func(x, y result.Part) bool { return x.Host == y.Host }) {
		remarks = append(remarks, "the hosts have different names but the same cores and kernel: check that they are alike")
	}
	if math.Abs(a.Seconds-b.Seconds) > lengths*math.Max(a.Seconds, b.Seconds) {
		not = append(not, fmt.Sprintf("A lasted %s and B %s", lasted(a.Seconds), lasted(b.Seconds)))
	}
	if a.Tool != b.Tool {
		remarks = append(remarks, fmt.Sprintf("the programs differ: %s %s (%s) and %s %s (%s)", a.Tool.Name, a.Tool.Version, a.Tool.Go, b.Tool.Name, b.Tool.Version, b.Tool.Go))
	}
	return not, remarks
}

func machines(r *result.Report) []string {
	var out []string
	for _, p := range r.Parts {
		out = append(out, fmt.Sprintf("%d cores, kernel %s", p.Cores, p.Kernel))
	}
	sort.Strings(out)
	return out
}

// scenarioDiff returns the top-level keys in which two scenarios differ: those
// that change the load, and the others.
func scenarioDiff(a, b json.RawMessage) (load, other []string) {
	var ma, mb map[string]json.RawMessage
	if json.Unmarshal(a, &ma) != nil || json.Unmarshal(b, &mb) != nil {
		if string(result.Canonical(a)) != string(result.Canonical(b)) {
			return []string{"their text"}, nil
		}
		return nil, nil
	}
	keys := maps.Clone(ma)
	if keys == nil {
		keys = map[string]json.RawMessage{}
	}
	maps.Copy(keys, mb)
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if string(result.Canonical(ma[k])) == string(result.Canonical(mb[k])) {
			continue
		}
		switch k {
		case "name", "Name", "thresholds", "Thresholds":
			other = append(other, k)
		default:
			load = append(load, k)
		}
	}
	return load, other
}
