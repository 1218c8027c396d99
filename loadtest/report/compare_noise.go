package report

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"time"

	"golang.org/x/perf/benchmath"
)

// The bounds of noise, where the runs themselves say too little.
const (
	nBlocks    = 10  // parts of a run that are compared with each other
	indistinct = .01 // a change below 1% is no difference, however certain
	rough      = .1  // single values: below 10% there is nothing to say
	fewest     = 5   // values beyond a quantile; with fewer it is not known
	lengths    = .1  // runs whose lengths differ by more are not comparable
)

// within says whether the difference is noise, and by what that was judged.
func within(a, b measured, m metric) (bool, string) {
	change := math.Abs(b.v-a.v) / math.Max(math.Abs(a.v), math.Abs(b.v))
	if change < indistinct {
		return true, "below 1%"
	}
	if len(a.blocks) == nBlocks && len(b.blocks) == nBlocks {
		// The test that benchstat uses: nothing is assumed of how they spread.
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
		// Values of one run hang together, so a narrow interval alone says too much.
		return change < rough, "95% intervals, 10%"
	}
	if m.unit == unitCount && m.group != "People" {
		return change < rough || math.Abs(b.v-a.v) < 3*math.Sqrt(a.v+b.v), "counts, 3σ and 10%"
	}
	return m.better != either && change < rough, "single values, 10%"
}

// interval is the 95% confidence interval of a quantile, by the ranks that a
// binomial distribution gives (distribution-free).
func interval(h *Hist, q float64) (lo, hi time.Duration) {
	n := float64(h.Count())
	d := 1.96 * math.Sqrt(q*(1-q)/n)
	return h.Quantile(max(q-d, 0)), h.Quantile(min(q+d, 1))
}

// blocks are the averages of nBlocks parts of a run: seconds next to each other
// hang together, blocks hardly. None of a run with fewer than three seconds
// for each.
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

// seriesOf is a figure of the measured seconds. Those of the total are summed
// up from the paths'; its latencies are not known by the second.
func seriesOf(r *Report, path string, m metric) []float64 {
	if path == Total && m.dist != nil {
		return nil
	}
	var out []float64
	for _, pt := range r.Timeline {
		if pt.T < 0 {
			continue
		}
		var sum PointPath
		there := false
		for _, v := range pt.Paths {
			if v.Name == path || path == Total && v.Name != Total {
				v.Name = ""
				if !there {
					sum, there = v, true
				} else {
					add(&sum, v)
				}
			}
		}
		if there {
			out = append(out, m.series(sum))
		}
	}
	return out
}

func processNames(a, b *Report) []string {
	names := map[string]bool{}
	for _, p := range slices.Concat(a.Processes, b.Processes) {
		names[p.Name] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// processMetrics are the figures of all processes of a name together.
func processMetrics(name string) []metric {
	total := func(f func(Process) float64) func(*Report, *Path) (float64, bool) {
		return func(r *Report, _ *Path) (float64, bool) {
			v, ok := 0.0, false
			for _, p := range r.Processes {
				if p.Name == name {
					v, ok = v+f(p), true
				}
			}
			return v, ok
		}
	}
	seconds := func(r *Report) []float64 {
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
	perGbit := func(r *Report, _ *Path) (float64, bool) {
		// Each generator's is against its own traffic, that of the others against the
		// traffic of all.
		var sum, cpu, gbit float64
		for _, p := range r.Processes {
			if per := p.CPUSecondsPerGbit; p.Name == name && per != nil && *per > 0 {
				sum, cpu, gbit = sum+*per, cpu+p.CPUSeconds, gbit + p.CPUSeconds / *per
			}
		}
		if name == Generator && gbit > 0 {
			return cpu / gbit, true
		}
		return sum, sum > 0
	}
	return []metric{
		{name: "cores", unit: unitCores, better: lower, value: total(func(p Process) float64 { return p.Cores }), seconds: seconds},
		{name: "processor time per Gbit", unit: unitCost, better: lower, value: perGbit},
		{name: "memory at most", unit: unitBytes, better: lower, value: total(func(p Process) float64 { return float64(p.PeakBytes) })},
	}
}

// comparability says why two reports cannot be compared, and what else differs.
func comparability(a, b *Report) (not, remarks []string) {
	if a.Kind != b.Kind {
		not = append(not, fmt.Sprintf("A is of the kind %s and B of %s", a.Kind, b.Kind))
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
		r    *Report
	}{{"A", a}, {"B", b}} {
		if v := r.r.Verdict.Result; v == Inconclusive || v == Broken {
			not = append(not, fmt.Sprintf("the verdict of %s is %q: %s", r.name, v, r.r.words().Means))
		}
	}
	ma, mb := machines(a), machines(b)
	if !slices.Equal(ma, mb) {
		not = append(not, fmt.Sprintf("the machines differ: %v and %v", ma, mb))
	} else if !slices.EqualFunc(a.Parts, b.Parts, func(x, y Part) bool { return x.Host == y.Host }) {
		remarks = append(remarks, "the hosts have other names, though the same cores and kernel: make sure that they are alike")
	}
	if math.Abs(a.Seconds-b.Seconds) > lengths*math.Max(a.Seconds, b.Seconds) {
		not = append(not, fmt.Sprintf("A lasted %s and B %s", lasted(a.Seconds), lasted(b.Seconds)))
	}
	if a.Tool != b.Tool {
		remarks = append(remarks, fmt.Sprintf("other programs: %s %s (%s) and %s %s (%s)", a.Tool.Name, a.Tool.Version, a.Tool.Go, b.Tool.Name, b.Tool.Version, b.Tool.Go))
	}
	return not, remarks
}

func machines(r *Report) []string {
	var out []string
	for _, p := range r.Parts {
		out = append(out, fmt.Sprintf("%d cores, kernel %s", p.Cores, p.Kernel))
	}
	sort.Strings(out)
	return out
}

// scenarioDiff are the top keys in which two scenarios differ: those that
// change the load, and those that do not.
func scenarioDiff(a, b json.RawMessage) (load, other []string) {
	var ma, mb map[string]json.RawMessage
	if json.Unmarshal(a, &ma) != nil || json.Unmarshal(b, &mb) != nil {
		if string(canonical(a)) != string(canonical(b)) {
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
		if string(canonical(ma[k])) == string(canonical(mb[k])) {
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
