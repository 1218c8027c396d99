package sizing

import (
	"fmt"
	"math"

	"github.com/openova-io/bp-relay/loadtest/internal/measure"
	"github.com/openova-io/bp-relay/loadtest/internal/report/plot"
)

// picture is a plot before it is drawn.
type picture struct {
	file, title, about string
	x, y               string // labels of the axes
	log                bool   // of y
	limit              float64
	limitName          string
	lines              []curve
}

// curve is a figure of the points of a series.
type curve struct {
	name, series string
	slot         int
	x, y         func(*Point) measure.Number
}

// markSlot is the colour and dash of the marks.
const markSlot = 5

func size(p *Point) measure.Number { return measure.Number(p.Size()) }

func coresOf(use func(*Point) *Use) func(*Point) measure.Number {
	return figureOf(use, func(u *Use) measure.Number { return u.Cores })
}

func gbitOf(use func(*Point) *Use) func(*Point) measure.Number {
	return figureOf(use, func(u *Use) measure.Number { return u.CPUSecondsPerGbit })
}

func packetOf(use func(*Point) *Use) func(*Point) measure.Number {
	return figureOf(use, func(u *Use) measure.Number { return u.MicrosPerPacket })
}

func figureOf(use func(*Point) *Use, of func(*Use) measure.Number) func(*Point) measure.Number {
	return func(p *Point) measure.Number {
		if u := use(p); u != nil {
			return of(u)
		}
		return measure.None()
	}
}

func (d *Data) pictures() []picture {
	gen, sfu, turn := (*Point).generator, (*Point).sfu, (*Point).turn
	machine := func(p *Point) measure.Number { return p.Busy * measure.Number(d.Machine.Cores) }
	p50 := func(p *Point) measure.Number { return p.LatencyP50Ms }
	p99 := func(p *Point) measure.Number { return p.LatencyP99Ms }
	packets := func(p *Point) measure.Number { return p.Delivered.Packets }
	limit, limitName := HonestBusy*float64(d.Machine.Cores), fmt.Sprintf("%.0f %% of the machine", 100*HonestBusy)
	const subscribers, cores, cost = "subscribers", "cores", "CPU seconds per Gbit"
	return []picture{
		{"sizing-direct", "Cores by subscribers, directly", "processors that generator, SFU and the whole machine used, by the number of subscribers of one publisher", subscribers, cores, false, limit, limitName, []curve{
			{"generator", SeriesDirect, 0, size, coresOf(gen)}, {"SFU", SeriesDirect, 1, size, coresOf(sfu)}, {"whole machine", SeriesDirect, 3, size, machine}}},
		{"sizing-turn", "Cores by subscribers, through TURN over UDP", "processors that generator, SFU, TURN and the whole machine used, by the number of subscribers of one publisher", subscribers, cores, false, limit, limitName, []curve{
			{"generator", SeriesTURN, 0, size, coresOf(gen)}, {"SFU", SeriesTURN, 1, size, coresOf(sfu)}, {"TURN", SeriesTURN, 2, size, coresOf(turn)}, {"whole machine", SeriesTURN, 3, size, machine}}},
		{"sizing-cost", "CPU seconds per Gbit by subscribers", "processor time per delivered or relayed Gbit, by the number of subscribers", subscribers, cost, false, 0, "", []curve{
			{"generator, direct", SeriesDirect, 0, size, gbitOf(gen)}, {"SFU, direct", SeriesDirect, 1, size, gbitOf(sfu)},
			{"generator, TURN", SeriesTURN, 4, size, gbitOf(gen)}, {"SFU, TURN", SeriesTURN, 3, size, gbitOf(sfu)}, {"TURN", SeriesTURN, 2, size, gbitOf(turn)}}},
		{"sizing-latency", "One-way latency by subscribers", "median and 99th percentile of the one-way latency in milliseconds, by the number of subscribers", subscribers, "ms", true, 0, "", []curve{
			{"p50, direct", SeriesDirect, 0, size, p50}, {"p99, direct", SeriesDirect, 1, size, p99}, {"p50, TURN", SeriesTURN, 2, size, p50}, {"p99, TURN", SeriesTURN, 3, size, p99}}},
		{"sizing-publishers", "Cores by publishers without subscribers", "processors that generator and SFU used, by the number of publishers", "publishers", cores, false, 0, "", []curve{
			{"generator", SeriesPublishers, 0, size, coresOf(gen)}, {"SFU", SeriesPublishers, 1, size, coresOf(sfu)}}},
		{"sizing-packets", "CPU time per packet, video and audio", "processor time per packet in microseconds, by packets per second, with video and with audio only", "packets per second", "CPU µs per packet", false, 0, "", []curve{
			{"generator, video", SeriesDirect, 0, packets, packetOf(gen)}, {"SFU, video", SeriesDirect, 1, packets, packetOf(sfu)},
			{"generator, audio", SeriesAudio, 4, packets, packetOf(gen)}, {"SFU, audio", SeriesAudio, 3, packets, packetOf(sfu)}}},
	}
}

// Pictures returns self-contained SVG files by file name, for light and for dark
// mode. A cross marks each run that did not pass. A figure that was not measured
// is not drawn, and an empty picture is left out.
func (d *Data) Pictures() (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, p := range d.pictures() {
		c := d.chart(p)
		if len(c.Lines) == 0 {
			continue
		}
		svg, err := file(c)
		if err != nil {
			return nil, err
		}
		out[p.file+".svg"] = svg
	}
	return out, nil
}

func (d *Data) chart(p picture) plot.Chart {
	c := plot.Chart{ID: p.file, Title: p.title, About: p.about, XLabel: p.x, YLabel: p.y, XText: plot.Short, YText: plot.Short}
	var crosses []plot.XY
	most, least, wide := p.limit, math.Inf(1), 0.0
	for _, l := range p.lines {
		line := plot.Line{Name: l.name, Slot: l.slot}
		for _, pt := range d.of(l.series) {
			x, y := float64(l.x(&pt)), float64(l.y(&pt))
			if math.IsNaN(x) || math.IsNaN(y) || math.IsInf(x, 0) || math.IsInf(y, 0) {
				continue
			}
			line.Points = append(line.Points, plot.XY{X: x, Y: y})
			most, least, wide = max(most, y), min(least, y), max(wide, x)
			if !pt.Passed() {
				crosses = append(crosses, plot.XY{X: x, Y: y})
			}
		}
		if len(line.Points) > 0 {
			c.Lines = append(c.Lines, line)
		}
	}
	c.X, c.Y = plot.Linear(0, plot.Ceil(wide), 8, plain), plot.Linear(0, plot.Ceil(most), 5, plot.Short)
	if p.log {
		c.Y = plot.Log(max(least*.8, 1e-3), most*1.25, plot.Short)
	}
	if p.limit > 0 && len(c.Lines) > 0 {
		c.Lines = append(c.Lines, plot.Line{Name: p.limitName, Slot: 4, Points: []plot.XY{{X: 0, Y: p.limit}, {X: plot.Ceil(wide), Y: p.limit}}})
	}
	if len(crosses) > 0 {
		c.Lines = append(c.Lines, plot.Line{Name: "did not pass", Slot: markSlot, Points: crosses})
	}
	return c
}

// plain formats a number on the axis of participants and packets.
func plain(v float64) string { return plot.Number(v, "") }
