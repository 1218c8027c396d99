package report

import "slices"

// Which way a figure is better.
const (
	lower  = -1
	higher = +1
	either = 0 // depends on the scenario
)

// metric is one figure of a path, as tables and comparisons have it.
type metric struct {
	group, name, unit string
	better            int
	// value is false when it was not measured.
	value func(*Report, *Path) (float64, bool)
	// series is the figure second by second, where the timeline has it.
	series func(PointPath) float64
	// seconds is the same for what is of no path.
	seconds func(*Report) []float64
	// dist and q say that the value is a quantile of a distribution.
	dist func(*Path) *Hist
	q    float64
}

// of is the value of a path of a report.
func (m metric) of(r *Report, p *Path) (float64, bool) {
	if m.dist != nil {
		h := m.dist(p)
		return Ms(h.Quantile(m.q)), h.Count() > 0
	}
	return m.value(r, p)
}

func (m metric) text(r *Report, p *Path) string {
	if v, ok := m.of(r, p); ok {
		return figure(v, m.unit)
	}
	return none
}

func whole(f func(*Path) int64) func(*Report, *Path) (float64, bool) {
	return func(_ *Report, p *Path) (float64, bool) { return float64(f(p)), true }
}

func quantiles(group, name string, dist func(*Path) *Hist, qs ...float64) []metric {
	names := map[float64]string{.5: "p50", .9: "p90", .99: "p99", .999: "p99.9"}
	var out []metric
	for _, q := range qs {
		out = append(out, metric{group: group, name: name + " " + names[q], unit: unitMs, better: lower, dist: dist, q: q})
	}
	return out
}

func latencyOf(p *Path) *Hist { return p.Latency }
func joinOf(p *Path) *Hist    { return p.Joins.Time }
func frameOf(p *Path) *Hist   { return p.Joins.FirstFrame }

// metrics are all figures of a path, in the order of the tables.
func metrics() []metric {
	media := func(f func(*Report, *Path) float64) func(*Report, *Path) (float64, bool) {
		return func(r *Report, p *Path) (float64, bool) {
			return f(r, p), r.Seconds > 0 && p.Received.Expected > 0
		}
	}
	latency := quantiles("Latency", "latency", latencyOf, .5, .9, .99, .999)
	latency[0].series = func(p PointPath) float64 { return p.LatencyP50Ms }
	latency[2].series = func(p PointPath) float64 { return p.LatencyP99Ms }
	return slices.Concat([]metric{
		{group: "People", name: "publishers", value: whole(func(p *Path) int64 { return int64(p.Publishers) })},
		{group: "People", name: "subscribers", value: whole(func(p *Path) int64 { return int64(p.Subscribers) })},
		{group: "Media", name: "received", unit: unitBps, better: higher,
			value:  media(func(r *Report, p *Path) float64 { return float64(p.Received.MeasuredBytes) * 8 / r.Seconds }),
			series: func(p PointPath) float64 { return p.ReceivedBps }},
		{group: "Media", name: "per stream", unit: unitBps, better: higher,
			value: func(_ *Report, p *Path) (float64, bool) {
				return float64(p.Received.Bytes) * 8 / max(p.Received.StreamSeconds, 1e-9), p.Received.StreamSeconds > 0
			}},
		{group: "Media", name: "packets received", value: media(func(_ *Report, p *Path) float64 { return float64(p.Received.Packets) })},
		{group: "Media", name: "packets lost", better: lower, value: media(func(_ *Report, p *Path) float64 { return float64(p.Received.Lost) })},
		{group: "Media", name: "loss", unit: unitShare, better: lower,
			value: media(func(_ *Report, p *Path) float64 { return p.Loss() }),
			series: func(p PointPath) float64 {
				return float64(p.Lost) / float64(max(p.Packets+p.Lost, 1))
			}},
		{group: "Media", name: "recovered by NACK", value: media(func(_ *Report, p *Path) float64 { return float64(p.Received.Recovered) })},
		{group: "Media", name: "reordered", better: lower, value: media(func(_ *Report, p *Path) float64 { return float64(p.Received.Reordered) })},
		{group: "Media", name: "whole frames", value: media(func(_ *Report, p *Path) float64 { return float64(p.Received.Frames) })},
		{group: "Media", name: "broken frames", better: lower, value: media(func(_ *Report, p *Path) float64 { return float64(p.Received.FramesBroken) })},
		{group: "Media", name: "freezes", better: lower,
			value:  media(func(_ *Report, p *Path) float64 { return float64(p.Received.Freezes) }),
			series: func(p PointPath) float64 { return float64(p.Freezes) }},
		{group: "Media", name: "time frozen", unit: unitSec, better: lower, value: media(func(_ *Report, p *Path) float64 { return p.Received.FreezeSeconds })},
	},
		latency,
		quantiles("Latency", "jitter", func(p *Path) *Hist { return p.Jitter }, .5, .99),
		quantiles("Latency", "message latency", func(p *Path) *Hist { return p.Received.MessageLatency }, .5, .99),
		[]metric{
			{group: "Joins", name: "joins", value: joins(func(j Joins) int { return j.Succeeded })},
			{group: "Joins", name: "joins failed", better: lower, value: joins(func(j Joins) int { return j.Failed })},
			{group: "Joins", name: "joins not begun", better: lower, value: joins(func(j Joins) int { return j.Dropped })},
			{group: "Joins", name: "reconnects", better: lower, value: joins(func(j Joins) int { return j.Reconnects })},
			{group: "Joins", name: "wrong path", better: lower, value: func(_ *Report, p *Path) (float64, bool) { return float64(p.Wrong), p.Joins.Attempted > 0 }},
		},
		quantiles("Joins", "time to join", joinOf, .5, .99),
		quantiles("Joins", "first packet", func(p *Path) *Hist { return p.Joins.FirstPacket }, .5, .99),
		quantiles("Joins", "first frame", frameOf, .5, .99),
		callMetrics(), recordingMetrics())
}

func joins(f func(Joins) int) func(*Report, *Path) (float64, bool) {
	return func(_ *Report, p *Path) (float64, bool) { return float64(f(p.Joins)), p.Joins.Attempted > 0 }
}

func callMetrics() []metric {
	n := func(f func(*Calls) int64) func(*Report, *Path) (float64, bool) {
		return func(_ *Report, p *Path) (float64, bool) {
			if p.Calls == nil {
				return 0, false
			}
			return float64(f(p.Calls)), true
		}
	}
	dist := func(f func(*Calls) *Hist) func(*Path) *Hist {
		return func(p *Path) *Hist {
			if p.Calls == nil {
				return nil
			}
			return f(p.Calls)
		}
	}
	return slices.Concat([]metric{
		{group: "Calls", name: "calls", better: higher, value: n(func(c *Calls) int64 { return c.Succeeded }), series: func(p PointPath) float64 { return float64(p.Calls) }},
		{group: "Calls", name: "calls failed", better: lower, value: n(func(c *Calls) int64 { return c.Failed })},
		{group: "Calls", name: "calls not begun", better: lower, value: n(func(c *Calls) int64 { return c.Dropped })},
		{group: "Calls", name: "bytes", unit: unitBytes, value: n(func(c *Calls) int64 { return c.Bytes })},
	},
		quantiles("Calls", "call", dist(func(c *Calls) *Hist { return c.Time }), .5, .99, .999),
		quantiles("Calls", "desktop update", dist(func(c *Calls) *Hist { return c.Update }), .5, .99))
}

func recordingMetrics() []metric {
	n := func(f func(*Recordings) int64) func(*Report, *Path) (float64, bool) {
		return func(_ *Report, p *Path) (float64, bool) {
			if p.Recordings == nil {
				return 0, false
			}
			return float64(f(p.Recordings)), true
		}
	}
	dist := func(f func(*Recordings) *Hist) func(*Path) *Hist {
		return func(p *Path) *Hist {
			if p.Recordings == nil {
				return nil
			}
			return f(p.Recordings)
		}
	}
	return slices.Concat([]metric{
		{group: "Recordings", name: "sealed", better: higher, value: n(func(r *Recordings) int64 { return int64(r.Sealed) })},
		{group: "Recordings", name: "recordings failed", better: lower, value: n(func(r *Recordings) int64 { return int64(r.Failed) })},
		{group: "Recordings", name: "gaps", better: lower, value: n(func(r *Recordings) int64 { return int64(r.Gaps) })},
		{group: "Recordings", name: "tracks", value: n(func(r *Recordings) int64 { return int64(r.Tracks) })},
		{group: "Recordings", name: "recorded bytes", unit: unitBytes, value: n(func(r *Recordings) int64 { return r.Bytes })},
	},
		quantiles("Recordings", "start", dist(func(r *Recordings) *Hist { return r.Start }), .5, .99),
		quantiles("Recordings", "stop", dist(func(r *Recordings) *Hist { return r.Stop }), .5, .99))
}

// shown are the report's paths with the total last, but for a single path,
// which is the total.
func (r *Report) shown() []*Path {
	var out []*Path
	for i := range r.Paths {
		out = append(out, &r.Paths[i])
	}
	if len(r.Paths) != 1 {
		out = append(out, &r.Total)
	}
	return out
}
