package judge

import (
	"slices"
	"strings"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// The units that values of metrics are given in.
const (
	UnitMs        = "ms"
	UnitShare     = "%"
	UnitBitrate   = "bit/s"
	UnitCount     = "" // a number of things in the whole run
	UnitPerMinute = "per stream-minute"
	UnitPerSecond = "/s"
	UnitCores     = "cores" // 1 is one processor, busy all the time
)

// Metric is a figure that a threshold can bound.
type Metric struct {
	Name string
	Unit string // one of the Unit constants
	Text string // what it counts, in a sentence
	// Kinds are the kinds of load that have it; none: every kind.
	Kinds []string
	// Global metrics are of the run, not of a path.
	Global bool

	value func(r *result.Report, p *result.Path) (float64, string)
}

// Of reports whether loads of a kind have the metric.
func (m Metric) Of(kind string) bool { return len(m.Kinds) == 0 || slices.Contains(m.Kinds, kind) }

// stat is a figure of a distribution.
type stat struct {
	name, text string
	of         func(h *result.Hist) float64
}

func stats() []stat {
	quantile := func(q float64) func(h *result.Hist) float64 {
		return func(h *result.Hist) float64 { return result.Ms(h.Quantile(q)) }
	}
	return []stat{
		{"min", "the shortest", func(h *result.Hist) float64 { return result.Ms(h.Min()) }},
		{"mean", "the average", func(h *result.Hist) float64 { return result.Ms(h.Mean()) }},
		{"p50", "half are at most this", quantile(.5)},
		{"p90", "90 % are at most this", quantile(.9)},
		{"p95", "95 % are at most this", quantile(.95)},
		{"p99", "99 % are at most this", quantile(.99)},
		{"p999", "99.9 % are at most this", quantile(.999)},
		{"max", "the longest", func(h *result.Hist) float64 { return result.Ms(h.Max()) }},
	}
}

// Metrics returns all metrics, in the order of the documentation.
func Metrics() []Metric {
	out := append(media(), messages()...)
	out = append(out, calls()...)
	out = append(out, recordings()...)
	out = append(out, processes()...)
	for _, d := range distributions() {
		for _, s := range stats() {
			out = append(out, Metric{
				Name: d.name + "_" + s.name, Unit: UnitMs, Text: d.text + ": " + s.text, Kinds: d.kinds,
				value: func(_ *result.Report, p *result.Path) (float64, string) {
					h := d.of(p)
					if h.Count() == 0 {
						return 0, "no " + d.text + " was measured"
					}
					return s.of(h), ""
				},
			})
		}
	}
	return out
}

// Lookup finds a metric by its name.
func Lookup(name string) (Metric, bool) {
	all := Metrics()
	i := slices.IndexFunc(all, func(m Metric) bool { return m.Name == name })
	if i < 0 {
		return Metric{}, false
	}
	return all[i], true
}

// nearest lists the metrics whose names begin with or contain an unknown one.
func nearest(name string) string {
	head, _, _ := strings.Cut(name, "_")
	var out []string
	for _, m := range Metrics() {
		if head != "" && (strings.HasPrefix(m.Name, head) || strings.Contains(m.Name, name)) {
			out = append(out, m.Name)
		}
	}
	if len(out) == 0 {
		return "docs/scenarios.md lists the metrics"
	}
	return "there is " + strings.Join(out, ", ")
}
