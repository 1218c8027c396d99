package report

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"

	"github.com/openova-io/bp-relay/loadtest/internal/result"

	"github.com/openova-io/bp-relay/loadtest/internal/report/plot"
)

// maxPoints bounds the points of a time series on the page. In a longer run, each
// point covers several seconds: the highest value for latencies and counts, the
// average for rates.
const maxPoints = 600

// draw makes the page's charts and leaves out those without data.
func (p *page) draw(r *result.Report) error {
	slots := slotsOf(r)
	series := []struct {
		id, title, about, unit string
		of                     func(result.PointPath) float64
		peak                   bool
	}{
		{"received", "Received", "bit/s that all subscribers of a path received", unitBps, func(v result.PointPath) float64 { return v.ReceivedBps }, false},
		{"sent", "Sent", "bit/s that all publishers of a path sent", unitBps, func(v result.PointPath) float64 { return v.SentBps }, false},
		{"participants", "Participants", "participants that were connected", unitCount, func(v result.PointPath) float64 { return float64(v.Participants) }, false},
		{"lost", "Packets lost in each second", "packets lost, per second", unitCount, func(v result.PointPath) float64 { return float64(v.Lost) }, true},
		{"p50", "Latency, median", "median of the one-way latency in each second", unitMs, func(v result.PointPath) float64 { return v.LatencyP50Ms }, true},
		{"p99", "Latency, p99", "99th percentile of the one-way latency in each second", unitMs, func(v result.PointPath) float64 { return v.LatencyP99Ms }, true},
		{"joins", "Joins in each second", "joins that succeeded, per second", unitCount, func(v result.PointPath) float64 { return float64(v.Joins) }, true},
		{"calls", "Calls in each second", "calls per second", unitCount, func(v result.PointPath) float64 { return float64(v.Calls) }, false},
	}
	for _, s := range series {
		var lines []plot.Line
		for _, name := range slots.names {
			l := plot.Line{Name: name, Slot: slots.of(name)}
			for _, pt := range r.Timeline {
				for _, v := range pt.Paths {
					if v.Name == name {
						l.Points = append(l.Points, plot.XY{X: pt.T, Y: s.of(v)})
					}
				}
			}
			lines = append(lines, l)
		}
		if err := p.chart(&p.Time, overTime(r, s.id, s.title, s.about, s.unit, thin(lines, s.peak))); err != nil {
			return err
		}
	}
	if err := p.chart(&p.Time, overTime(r, "cpu", "Processors in use", "processors that each measured process used, on all hosts together", unitCores, thin(cores(r), false))); err != nil {
		return err
	}
	for _, d := range []struct {
		to              *[]template.HTML
		id, title, what string
		of              func(*result.Path) *result.Hist
	}{
		{&p.Dist, "latency", "One-way latency", "packets", latencyOf},
		{&p.Dist, "message", "Latency of data messages", "messages", func(p *result.Path) *result.Hist { return p.Received.MessageLatency }},
		{&p.Joining, "join", "Time to join", "joins", joinOf},
		{&p.Joining, "frame", "Time to the first frame", "joins", frameOf},
		{&p.Dist, "call", "Time of a call", "calls", func(p *result.Path) *result.Hist {
			if p.Calls == nil {
				return nil
			}
			return p.Calls.Time
		}},
		{&p.Dist, "update", "Latency of desktop updates", "updates", func(p *result.Path) *result.Hist {
			if p.Calls == nil {
				return nil
			}
			return p.Calls.Update
		}},
	} {
		hists := slots.hists(r, d.of)
		if err := p.chart(d.to, percentiles(d.id, d.title, d.what, hists)); err != nil {
			return err
		}
		if err := p.chart(d.to, shares(d.id, d.title, d.what, hists)); err != nil {
			return err
		}
	}
	return nil
}

func (p *page) chart(to *[]template.HTML, c *plot.Chart) error {
	if c == nil {
		return nil
	}
	svg, err := c.SVG()
	if err != nil {
		return err
	}
	*to = append(*to, svg)
	return nil
}

// slots gives each path its colour for the whole page.
type slots struct{ names []string }

func slotsOf(r *result.Report) slots {
	var s slots
	for _, p := range r.Paths {
		s.names = append(s.names, p.Name)
	}
	for _, pt := range r.Timeline {
		for _, v := range pt.Paths {
			if !slices.Contains(s.names, v.Name) && v.Name != result.Total {
				s.names = append(s.names, v.Name)
			}
		}
	}
	return s
}

func (s slots) of(name string) int { return max(slices.Index(s.names, name), 0) }

type named struct {
	name string
	slot int
	h    *result.Hist
}

func (s slots) hists(r *result.Report, of func(*result.Path) *result.Hist) []named {
	var out []named
	for i := range r.Paths {
		if h := of(&r.Paths[i]); h.Count() > 0 {
			out = append(out, named{r.Paths[i].Name, s.of(r.Paths[i].Name), h})
		}
	}
	if len(out) == 0 && of(&r.Total).Count() > 0 {
		out = append(out, named{result.Total, 0, of(&r.Total)})
	}
	return out
}

// cores sums a process's use over hosts: one line for each name.
func cores(r *result.Report) []plot.Line {
	var lines []plot.Line
	at := map[string]int{}
	for _, pt := range r.Timeline {
		sums := map[string]float64{}
		for _, c := range pt.CPU {
			if _, ok := at[c.Name]; !ok {
				at[c.Name] = len(lines)
				lines = append(lines, plot.Line{Name: c.Name, Slot: 3 + len(lines)}) // colours that the paths do not use
			}
			sums[c.Name] += c.Cores
		}
		for name, v := range sums {
			l := &lines[at[name]]
			l.Points = append(l.Points, plot.XY{X: pt.T, Y: v})
		}
	}
	return lines
}

func thin(lines []plot.Line, peak bool) []plot.Line {
	for i, l := range lines {
		each := (len(l.Points) + maxPoints - 1) / maxPoints
		if each <= 1 {
			continue
		}
		var out []plot.XY
		for c := range slices.Chunk(l.Points, each) {
			p := plot.XY{X: c[0].X, Y: c[0].Y}
			for _, v := range c[1:] {
				if peak {
					p.Y = math.Max(p.Y, v.Y)
				} else {
					p.Y += v.Y
				}
			}
			if !peak {
				p.Y /= float64(len(c))
			}
			out = append(out, p)
		}
		lines[i].Points = out
	}
	return lines
}

// overTime returns nil if every value is 0.
func overTime(r *result.Report, id, title, about, unit string, lines []plot.Line) *plot.Chart {
	lines = slices.DeleteFunc(lines, func(l plot.Line) bool {
		return !slices.ContainsFunc(l.Points, func(p plot.XY) bool { return p.Y != 0 })
	})
	if len(lines) == 0 {
		return nil
	}
	lo, hi, top := math.Inf(1), math.Inf(-1), 0.0
	for _, l := range lines {
		for _, p := range l.Points {
			lo, hi, top = math.Min(lo, p.X), math.Max(hi, p.X), math.Max(top, p.Y)
		}
	}
	if unit == unitCount {
		top = max(top, 4) // whole numbers only on the axis
	}
	text := func(v float64) string { return figure(v, unit) }
	zero := 0.0
	c := &plot.Chart{
		ID: "time-" + id, Title: title, About: fmt.Sprintf("%s, over %s. %s", about, lasted(r.Seconds), highs(lines, text)),
		X: seconds(lo, hi), Y: plot.Linear(0, plot.Ceil(top), 5, text),
		XLabel: "time since the measured part began", Lines: lines, XText: plot.Clock, YText: text,
	}
	if lo < 0 {
		c.Before = &zero
	}
	return c
}

// seconds returns a time axis with ticks at round minutes.
func seconds(lo, hi float64) plot.Scale {
	s := plot.Linear(lo, hi, 8, plot.Clock)
	s.Ticks = nil
	for _, step := range []float64{1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400, 604800} {
		if (hi-lo)/step > 9 {
			continue
		}
		for at := math.Ceil(lo/step) * step; at <= hi && len(s.Ticks) < 20; at += step {
			s.Ticks = append(s.Ticks, plot.Tick{At: at, Label: plot.Clock(at)})
		}
		break
	}
	return s
}

func highs(lines []plot.Line, text func(float64) string) string {
	var out strings.Builder
	out.WriteString("Highest:")
	for i, l := range lines {
		top := 0.0
		for _, p := range l.Points {
			top = math.Max(top, p.Y)
		}
		if i > 0 {
			out.WriteString(",")
		}
		out.WriteString(" " + l.Name + " " + text(top))
	}
	return out.String() + "."
}
