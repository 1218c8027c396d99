package report

import (
	"slices"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// The direction in which a figure is better.
const (
	lower  = -1
	higher = +1
	either = 0 // depends on the scenario
)

type (
	// valueOf returns a figure of a path; false if it was not measured.
	valueOf func(*result.Report, *result.Path) (float64, bool)
	// distOf returns a distribution of a path; nil if it was not measured.
	distOf func(*result.Path) *result.Hist
)

// metric is one figure of a path in tables and comparisons.
type metric struct {
	group, name, unit string
	better            int
	value             valueOf
	// series is the figure second by second, if the timeline has it.
	series func(result.PointPath) float64
	// seconds is the same for a figure that belongs to no path.
	seconds func(*result.Report) []float64
	// dist and q are set if the value is a quantile of a distribution.
	dist distOf
	q    float64
}

// of returns the value for a path of a report.
func (m metric) of(r *result.Report, p *result.Path) (float64, bool) {
	if m.dist != nil {
		h := m.dist(p)
		return result.Ms(h.Quantile(m.q)), h.Count() > 0
	}
	return m.value(r, p)
}

func (m metric) text(r *result.Report, p *result.Path) string {
	if v, ok := m.of(r, p); ok {
		return figure(v, m.unit)
	}
	return none
}

func whole(f func(*result.Path) int64) valueOf {
	return func(_ *result.Report, p *result.Path) (float64, bool) { return float64(f(p)), true }
}

func quantiles(group, name string, dist distOf, qs ...float64) []metric {
	names := map[float64]string{.5: "p50", .9: "p90", .99: "p99", .999: "p99.9"}
	var out []metric
	for _, q := range qs {
		out = append(out, metric{group: group, name: name + " " + names[q], unit: unitMs, better: lower, dist: dist, q: q})
	}
	return out
}

func latencyOf(p *result.Path) *result.Hist { return p.Latency }
func joinOf(p *result.Path) *result.Hist    { return p.Joins.Time }
func frameOf(p *result.Path) *result.Hist   { return p.Joins.FirstFrame }

// metrics returns all figures of a path, in the order of the tables.
func metrics() []metric {
	media := func(f func(*result.Report, *result.Path) float64) valueOf {
		return func(r *result.Report, p *result.Path) (float64, bool) {
			return f(r, p), r.Seconds > 0 && p.Received.Expected > 0
		}
	}
	latency := quantiles("Latency", "latency", latencyOf, .5, .9, .99, .999)
	latency[0].series = func(p result.PointPath) float64 { return p.LatencyP50Ms }
	latency[2].series = func(p result.PointPath) float64 { return p.LatencyP99Ms }
	return slices.Concat([]metric{
		{group: "Participants", name: "publishers", value: whole(func(p *result.Path) int64 { return int64(p.Publishers) })},
		{group: "Participants", name: "subscribers", value: whole(func(p *result.Path) int64 { return int64(p.Subscribers) })},
		{group: "Media", name: "received", unit: unitBps, better: higher,
			value: media(func(r *result.Report, p *result.Path) float64 {
				return float64(p.Received.MeasuredBytes) * 8 / r.Seconds
			}),
			series: func(p result.PointPath) float64 { return p.ReceivedBps }},
		{group: "Media", name: "per stream", unit: unitBps, better: higher,
			value: func(_ *result.Report, p *result.Path) (float64, bool) {
				return float64(p.Received.Bytes) * 8 / max(p.Received.StreamSeconds, 1e-9), p.Received.StreamSeconds > 0
			}},
		{group: "Media", name: "packets received", value: media(func(_ *result.Report, p *result.Path) float64 { return float64(p.Received.Packets) })},
		{group: "Media", name: "packets lost", better: lower, value: media(func(_ *result.Report, p *result.Path) float64 { return float64(p.Received.Lost) })},
		{group: "Media", name: "loss", unit: unitShare, better: lower,
			value: media(func(_ *result.Report, p *result.Path) float64 { return p.Loss() }),
			series: func(p result.PointPath) float64 {
				return float64(p.Lost) / float64(max(p.Packets+p.Lost, 1))
			}},
		{group: "Media", name: "recovered by NACK", value: media(func(_ *result.Report, p *result.Path) float64 { return float64(p.Received.Recovered) })},
		{group: "Media", name: "reordered", better: lower, value: media(func(_ *result.Report, p *result.Path) float64 { return float64(p.Received.Reordered) })},
		{group: "Media", name: "complete frames", value: media(func(_ *result.Report, p *result.Path) float64 { return float64(p.Received.Frames) })},
		{group: "Media", name: "broken frames", better: lower, value: media(func(_ *result.Report, p *result.Path) float64 { return float64(p.Received.FramesBroken) })},
		{group: "Media", name: "freezes", better: lower,
			value:  media(func(_ *result.Report, p *result.Path) float64 { return float64(p.Received.Freezes) }),
			series: func(p result.PointPath) float64 { return float64(p.Freezes) }},
		{group: "Media", name: "time frozen", unit: unitSec, better: lower, value: media(func(_ *result.Report, p *result.Path) float64 { return p.Received.FreezeSeconds })},
	},
		latency,
		quantiles("Latency", "jitter", func(p *result.Path) *result.Hist { return p.Jitter }, .5, .99),
		quantiles("Latency", "message latency", func(p *result.Path) *result.Hist { return p.Received.MessageLatency }, .5, .99),
		[]metric{
			{group: "Joins", name: "joins", value: joins(func(j result.Joins) int { return j.Succeeded })},
			{group: "Joins", name: "joins failed", better: lower, value: joins(func(j result.Joins) int { return j.Failed })},
			{group: "Joins", name: "joins not started", better: lower, value: joins(func(j result.Joins) int { return j.Dropped })},
			{group: "Joins", name: "reconnects", better: lower, value: joins(func(j result.Joins) int { return j.Reconnects })},
			{group: "Joins", name: "wrong path", better: lower, value: func(_ *result.Report, p *result.Path) (float64, bool) { return float64(p.Wrong), p.Joins.Attempted > 0 }},
		},
		quantiles("Joins", "time to join", joinOf, .5, .99),
		quantiles("Joins", "first packet", func(p *result.Path) *result.Hist { return p.Joins.FirstPacket }, .5, .99),
		quantiles("Joins", "first frame", frameOf, .5, .99),
		callMetrics(), recordingMetrics())
}

func joins(f func(result.Joins) int) valueOf {
	return func(_ *result.Report, p *result.Path) (float64, bool) {
		return float64(f(p.Joins)), p.Joins.Attempted > 0
	}
}

// countOf returns a count of a section of a path's result, which paths of other kinds
// lack.
func countOf[S any](section func(*result.Path) *S, f func(*S) int64) valueOf {
	return func(_ *result.Report, p *result.Path) (float64, bool) {
		if s := section(p); s != nil {
			return float64(f(s)), true
		}
		return 0, false
	}
}

// timesOf is countOf for a distribution.
func timesOf[S any](section func(*result.Path) *S, f func(*S) *result.Hist) distOf {
	return func(p *result.Path) *result.Hist {
		if s := section(p); s != nil {
			return f(s)
		}
		return nil
	}
}

func callMetrics() []metric {
	calls := func(p *result.Path) *result.Calls { return p.Calls }
	n := func(f func(*result.Calls) int64) valueOf { return countOf(calls, f) }
	dist := func(f func(*result.Calls) *result.Hist) distOf { return timesOf(calls, f) }
	return slices.Concat([]metric{
		{group: "Calls", name: "calls", better: higher, value: n(func(c *result.Calls) int64 { return c.Succeeded }), series: func(p result.PointPath) float64 { return float64(p.Calls) }},
		{group: "Calls", name: "calls failed", better: lower, value: n(func(c *result.Calls) int64 { return c.Failed })},
		{group: "Calls", name: "calls not started", better: lower, value: n(func(c *result.Calls) int64 { return c.Dropped })},
		{group: "Calls", name: "bytes", unit: unitBytes, value: n(func(c *result.Calls) int64 { return c.Bytes })},
	},
		quantiles("Calls", "call", dist(func(c *result.Calls) *result.Hist { return c.Time }), .5, .99, .999),
		quantiles("Calls", "desktop update", dist(func(c *result.Calls) *result.Hist { return c.Update }), .5, .99))
}

func recordingMetrics() []metric {
	recordings := func(p *result.Path) *result.Recordings { return p.Recordings }
	n := func(f func(*result.Recordings) int64) valueOf { return countOf(recordings, f) }
	dist := func(f func(*result.Recordings) *result.Hist) distOf { return timesOf(recordings, f) }
	return slices.Concat([]metric{
		{group: "Recordings", name: "sealed", better: higher, value: n(func(r *result.Recordings) int64 { return int64(r.Sealed) })},
		{group: "Recordings", name: "recordings failed", better: lower, value: n(func(r *result.Recordings) int64 { return int64(r.Failed) })},
		{group: "Recordings", name: "gaps", better: lower, value: n(func(r *result.Recordings) int64 { return int64(r.Gaps) })},
		{group: "Recordings", name: "tracks", value: n(func(r *result.Recordings) int64 { return int64(r.Tracks) })},
		{group: "Recordings", name: "recorded bytes", unit: unitBytes, value: n(func(r *result.Recordings) int64 { return r.Bytes })},
	},
		quantiles("Recordings", "start", dist(func(r *result.Recordings) *result.Hist { return r.Start }), .5, .99),
		quantiles("Recordings", "stop", dist(func(r *result.Recordings) *result.Hist { return r.Stop }), .5, .99))
}

// shownPaths returns the report's paths followed by the total, or only the path
// if there is one: it equals the total.
func shownPaths(r *result.Report) []*result.Path {
	var out []*result.Path
	for i := range r.Paths {
		out = append(out, &r.Paths[i])
	}
	if len(r.Paths) != 1 {
		out = append(out, &r.Total)
	}
	return out
}
