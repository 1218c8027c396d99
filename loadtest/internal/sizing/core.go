package sizing

import (
	"github.com/openova-io/bp-relay/loadtest/internal/measure"
)

// HonestBusy is the highest busy share of the machine at which a figure per core
// is valid: above it, threads wait for processors, batches grow, and the cost of
// a Gbit changes (see media-performance, section 7).
const HonestBusy = 0.6

// Honest reports whether the machine had enough idle time for the point's costs
// to be valid.
func (p *Point) Honest() bool { return float64(p.Busy) < HonestBusy } // false if it is unknown

// Core is what one core of a process carries: its share of a core in one run,
// scaled up to a whole core.
type Core struct {
	// Who is generator, sfu, turn or relay; What is the work that it does.
	Who  string `json:"who"`
	What string `json:"what"`
	// Series and Size name the run; Busy is the busy share of the machine in it.
	Series string         `json:"series"`
	Size   int            `json:"size"`
	Busy   measure.Number `json:"busy"`
	// Honest reports whether Busy was below HonestBusy. If no run of the series
	// was, the least busy one is used.
	Honest bool `json:"honest"`
	// Cores is what the process used in the run.
	Cores measure.Number `json:"cores"`
	// Participants, Packets per second and Gbit per second are those of one core;
	// participants are those of What: subscribers, publishers, or tracks.
	Participants      measure.Number `json:"participants_per_core"`
	Packets           measure.Number `json:"packets_per_s_per_core"`
	Gbit              measure.Number `json:"gbit_per_s_per_core"`
	CPUSecondsPerGbit measure.Number `json:"cpu_s_per_gbit"`
	// BytesPerParticipant is the growth of the process's peak memory over the
	// series per participant; null if it did not grow, or the series has one
	// size.
	BytesPerParticipant measure.Number `json:"bytes_per_participant"`
}

// cores returns what one core of each process carries; without a run that passed
// there is no line.
func (d *Data) cores() []Core {
	var out []Core
	for _, row := range []struct {
		who, what, series string
		use               func(*Point) *Use
		flow              func(*Point) Flow
		people            func(*Point) int
	}{
		{"sfu", "sends to subscribers", SeriesDirect, (*Point).sfu, (*Point).delivered, (*Point).Size},
		{"sfu", "sends to subscribers, audio only", SeriesAudio, (*Point).sfu, (*Point).delivered, (*Point).Size},
		{"sfu", "receives from publishers", SeriesPublishers, (*Point).sfu, (*Point).sent, (*Point).Size},
		{"turn", "relays to subscribers (UDP)", SeriesTURN, (*Point).turn, (*Point).relayed, (*Point).Size},
		{"relay", "records tracks (the whole process)", SeriesRecording, (*Point).relay, (*Point).sent, (*Point).tracks},
		{"generator", "receives as subscribers", SeriesDirect, (*Point).generator, (*Point).delivered, (*Point).Size},
		{"generator", "receives as subscribers behind TURN", SeriesTURN, (*Point).generator, (*Point).delivered, (*Point).Size},
		{"generator", "receives and decrypts as subscribers", SeriesWitnesses, (*Point).generator, (*Point).delivered, (*Point).Size},
		{"generator", "sends as publishers", SeriesPublishers, (*Point).generator, (*Point).sent, (*Point).Size},
	} {
		points := d.of(row.series)
		best := best(points)
		if best == nil || row.use(best) == nil || row.use(best).Cores <= 0 {
			continue
		}
		u, f := row.use(best), row.flow(best)
		out = append(out, Core{
			Who: row.who, What: row.what, Series: row.series, Size: best.Size(), Busy: best.Busy, Honest: best.Honest(), Cores: u.Cores,
			Participants: measure.Number(row.people(best)) / u.Cores, Packets: f.Packets / u.Cores, Gbit: f.Gbit / u.Cores,
			CPUSecondsPerGbit: u.CPUSecondsPerGbit, BytesPerParticipant: growth(points, row.use, row.people),
		})
	}
	return out
}

func (p *Point) generator() *Use { return p.Generator }
func (p *Point) sfu() *Use       { return p.SFU }
func (p *Point) turn() *Use      { return p.TURN }
func (p *Point) relay() *Use     { return p.Relay }
func (p *Point) delivered() Flow { return p.Delivered }
func (p *Point) sent() Flow      { return p.Sent }
func (p *Point) relayed() Flow   { return p.Relayed }
func (p *Point) tracks() int     { return p.Tracks }

// best returns the largest run that passed and is honest, otherwise the least
// busy one that passed; nil if none passed.
func best(points []Point) *Point {
	var out *Point
	for i := range points {
		p := &points[i]
		switch {
		case !p.Passed():
		case out == nil, p.Honest() && !out.Honest():
			out = p
		case p.Honest() && p.Size() > out.Size(), !out.Honest() && p.Busy < out.Busy:
			out = p
		}
	}
	return out
}

// growth returns the growth of a process's peak memory per participant.
func growth(points []Point, use func(*Point) *Use, people func(*Point) int) measure.Number {
	slope, _ := memory(points, use, people)
	return slope
}

// memory returns the least-squares line of peak memory over participants; it is
// not a number if the line does not rise from above zero.
func memory(points []Point, use func(*Point) *Use, people func(*Point) int) (each, fixed measure.Number) {
	var n, sx, sy, sxx, sxy float64
	for i := range points {
		p := &points[i]
		if u := use(p); p.Passed() && u != nil && u.Bytes > 0 {
			x, y := float64(people(p)), float64(u.Bytes)
			n, sx, sy, sxx, sxy = n+1, sx+x, sy+y, sxx+x*x, sxy+x*y
		}
	}
	d := n*sxx - sx*sx
	if d <= 0 {
		return measure.None(), measure.None()
	}
	slope := (n*sxy - sx*sy) / d
	if rest := (sy - slope*sx) / n; slope > 0 && rest >= 0 {
		return measure.Number(slope), measure.Number(rest)
	}
	return measure.None(), measure.None()
}

// Join is the CPU time of one join, with its handshakes and signalling, without
// the media packets that arrived meanwhile.
type Join struct {
	PerSecond measure.Number `json:"joins_per_s"`
	Busy      measure.Number `json:"busy"`
	Generator measure.Number `json:"generator_cpu_s"`
	SFU       measure.Number `json:"sfu_cpu_s"`
}

// joins subtracts from the run with joins the cost of its packets, by the runs of
// the same media without joins; nil if either is missing, or the packets explain
// everything.
func (d *Data) joins() *Join {
	run, still := best(d.of(SeriesJoins)), best(d.of(SeriesAudio))
	if run == nil || still == nil || run.Joins == 0 || run.Generator == nil || run.SFU == nil || still.Generator == nil || still.SFU == nil {
		return nil
	}
	seconds := run.RateSeconds
	packets := float64(run.Delivered.Packets) * seconds
	cost := func(use, per *Use, packets float64) measure.Number {
		v := (float64(use.Cores)*seconds - packets*float64(per.MicrosPerPacket)/1e6) / float64(run.Joins)
		if !(v > 0) {
			return measure.None()
		}
		return measure.Number(v)
	}
	return &Join{
		PerSecond: measure.Number(float64(run.Joins) / seconds), Busy: run.Busy,
		Generator: cost(run.Generator, still.Generator, packets+float64(run.Sent.Packets)*seconds),
		SFU:       cost(run.SFU, still.SFU, packets),
	}
}
