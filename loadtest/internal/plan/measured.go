package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// The names of processes in reports.
const (
	procGenerator = "generator"
	procSFU       = "sfu"
	procTURN      = "turn"
)

// sockets is the number per participant: one for media, one for signalling
// (package rtc).
const sockets = 2

// FromReports fits a cost to runs of the kinds media and recording. Each second
// of their timelines is an observation: the joins, the packets sent and received,
// and the CPU time they took. A run with a ramp therefore determines more than
// one without; a run without a CPU timeline is one observation. Runs that differ
// (in the share of witnesses, in publishers against subscribers) separate their
// costs. A kind of packet that the runs do not determine costs as much as an
// average packet and is named in Cost.Assumed. An error is ErrCost.
func FromReports(reports []*result.Report) (Cost, error) {
	if len(reports) == 0 {
		return Cost{}, fmt.Errorf("%w: name reports of runs on a machine like the workers'", ErrCost)
	}
	c := Cost{SocketsPerParticipant: sockets, How: "least squares over the seconds of the runs: generator CPU against joins, packets sent and packets received"}
	c.Assumed = append(c.Assumed, fmt.Sprintf("sockets_per_participant: %d by design, one for media and one for signalling", sockets))
	var all traffic
	var rows []row
	for _, r := range reports {
		t, err := trafficOf(r)
		if err != nil {
			return Cost{}, fmt.Errorf("%w: run %q: %w", ErrCost, r.Name, err)
		}
		all.add(t)
		rows = append(rows, rowsOf(r, t)...)
		c.Runs = append(c.Runs, fmt.Sprintf("%s %s", r.Name, r.Started.UTC().Format("2006-01-02T15:04:05Z")))
		if r.Started.After(c.Measured) {
			c.Measured = r.Started
		}
		if len(r.Parts) > 0 {
			c.Machine = Host{r.Parts[0].Host, r.Parts[0].Cores, r.Parts[0].Kernel}
		}
	}
	c.packets(rows, all)
	c.memory(reports)
	c.SFU = serverOf(reports, procSFU, func(string) bool { return true })
	c.TURN = serverOf(reports, procTURN, func(path string) bool { return strings.HasPrefix(path, "turn-") })
	return c, c.Check()
}

// traffic is what a generator did in a run.
type traffic struct {
	cpu, seconds           float64
	sent, sentBits         float64
	received, receivedBits float64
	witnesses              float64 // share of received packets
}

func (t *traffic) add(o traffic) {
	t.cpu += o.cpu
	t.seconds += o.seconds
	t.sent += o.sent
	t.sentBits += o.sentBits
	t.received += o.received
	t.receivedBits += o.receivedBits
}

func trafficOf(r *result.Report) (traffic, error) {
	t := traffic{seconds: r.Seconds}
	if r.Kind != result.KindMedia && r.Kind != result.KindRecording {
		return t, fmt.Errorf("is of kind %q, not media or recording", r.Kind)
	}
	for _, p := range r.Processes {
		if p.Name == procGenerator {
			t.cpu += p.CPUSeconds
		}
	}
	if t.cpu <= 0 || t.seconds <= 0 {
		return t, fmt.Errorf("has no CPU time of the process %q", procGenerator)
	}
	if r.Verdict.Result == result.Inconclusive {
		return t, fmt.Errorf("is inconclusive: an overloaded generator does not show its normal cost")
	}
	s, v := r.Total.Sent, r.Total.Received
	t.sent, t.sentBits = float64(s.MeasuredPackets), float64(s.MeasuredBytes)*8
	t.received, t.receivedBits = float64(v.MeasuredPackets), float64(v.MeasuredBytes)*8
	if t.sent+t.received == 0 {
		return t, fmt.Errorf("carried no packets")
	}
	if all := r.Provenance.Witnesses + r.Provenance.HeaderOnly; all > 0 {
		t.witnesses = float64(r.Provenance.Witnesses) / float64(all)
	}
	return t, nil
}

// rowsOf returns a run's observations.
func rowsOf(r *result.Report, t traffic) []row {
	var rows []row
	before := 0.0
	for i, p := range r.Timeline {
		if before < 0 && p.T > 0 {
			before = 0 // the measured part starts at 0
		}
		dt := p.T - before
		before = p.T
		if i == 0 || dt <= 0 || dt > 10 { // the first has no start
			continue
		}
		var o row
		generators := 0 // a merged run has one per host
		for _, c := range p.CPU {
			if c.Name == procGenerator {
				generators++
				o.y += c.Cores * dt
			}
		}
		if generators == 0 {
			continue
		}
		// The error grows with the row's CPU time; a tick of the kernel's clock
		// is 10 ms.
		o.w = 1 / ((o.y + 0.05) * (o.y + 0.05))
		o.x[fIdle] = dt * float64(generators)
		for _, path := range p.Paths {
			if path.Name == result.Total {
				continue
			}
			o.x[fJoin] += float64(path.Joins + path.Failed)
			if t.sentBits > 0 {
				o.x[fSent] += path.SentBps * dt / t.sentBits * t.sent
			}
			o.x[fHeader] += float64(path.Packets) * (1 - t.witnesses)
			o.x[fWitness] += float64(path.Packets) * t.witnesses
		}
		rows = append(rows, o)
	}
	if len(rows) < factors {
		rows = []row{{
			x: [factors]float64{fIdle: t.seconds, fSent: t.sent, fHeader: t.received * (1 - t.witnesses), fWitness: t.received * t.witnesses},
			y: t.cpu, w: 1 / (t.cpu * t.cpu),
		}}
	}
	return rows
}

// packets sets the cost of packets and joins.
func (c *Cost) packets(rows []row, all traffic) {
	average := all.cpu / (all.sent + all.received)
	packet := belief{average, average}
	// Priors: a join takes milliseconds (a DTLS handshake and its messages), an
	// idle process a few per cent.
	prior := [factors]belief{fIdle: {0, 0.02}, fJoin: {0, 0.005}, fSent: packet, fHeader: packet, fWitness: packet}
	v, known := plausible(rows, prior, average)
	c.IdleCores, c.JoinCPUSeconds = v[fIdle], v[fJoin]
	rate := func(perPacket, packets, bits float64) Rate {
		r := Rate{CPUSecondsPerMpacket: perPacket * 1e6}
		if bits > 0 {
			r.CPUSecondsPerGbit = perPacket * packets / bits * 1e9
		}
		return r
	}
	c.Publisher = rate(v[fSent], all.sent, all.sentBits)
	c.HeaderOnly = rate(v[fHeader], all.received, all.receivedBits)
	c.Witness = rate(v[fWitness], all.received, all.receivedBits)
	for i, text := range [factors]string{
		fIdle:    "idle_cores: no second without load was seen",
		fJoin:    "join_cpu_s: the timelines have no joins; add a run with a ramp",
		fSent:    "publisher: not separable from subscribers, so close to the cost of an average packet; add larger runs that differ in publishers against subscribers",
		fHeader:  "header_only: not separable, so close to the cost of an average packet; add larger runs (40 subscribers or more, 30 s, a ramp) that differ in it",
		fWitness: "witness: not separable, so close to the cost of an average packet, which is too low; add a run with witnesses: 1",
	} {
		if !known[i] {
			c.Assumed = append(c.Assumed, text)
		}
	}
}

// memory sets the cost of memory.
func (c *Cost) memory(reports []*result.Report) {
	var n, sx, sy, sxx, sxy float64
	for _, r := range reports {
		x, y := float64(r.Total.Publishers+r.Total.Subscribers), 0.0
		for _, p := range r.Processes {
			if p.Name == procGenerator {
				y += float64(max(p.PeakBytes, p.RSSBytes))
			}
		}
		n, sx, sy, sxx, sxy = n+1, sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	if d := n*sxx - sx*sx; d > 0.01*n*sxx {
		slope := (n*sxy - sx*sy) / d
		if fixed := (sy - slope*sx) / n; slope > 0 && fixed >= 0 {
			c.BytesPerParticipant, c.BytesFixed = slope, fixed
			return
		}
	}
	if sx > 0 {
		c.BytesPerParticipant = sy / sx
		c.Assumed = append(c.Assumed, "bytes_fixed: not separable from the participants', which all memory is attributed to; add runs of different sizes")
	}
}

// serverOf returns a server's cost per Gbit of the paths that go through it, nil
// if no run measured it.
func serverOf(reports []*result.Report, name string, through func(path string) bool) *Server {
	var costs []float64
	var s Server
	for _, r := range reports {
		bits, people := 0.0, 0
		for _, p := range r.Paths {
			if through(p.Name) {
				bits += float64(p.Received.MeasuredBytes) * 8
				people += p.Publishers + p.Subscribers
			}
		}
		cost, found := 0.0, false
		for _, p := range r.Processes {
			switch {
			case p.Name != name:
				continue
			case p.CPUSecondsPerGbit != nil: // in a merged run, each is relative to the traffic of all
				cost += *p.CPUSecondsPerGbit
			case bits > 0:
				cost += p.CPUSeconds / (bits / 1e9)
			}
			found = true
		}
		if !found || bits == 0 {
			continue
		}
		costs = append(costs, cost)
		s.Gbit = max(s.Gbit, bits/1e9/r.Seconds)
		s.Participants = max(s.Participants, people)
	}
	if len(costs) == 0 {
		return nil
	}
	slices.Sort(costs)
	s.Lowest, s.CPUSecondsPerGbit, s.Highest = costs[0], costs[len(costs)/2], costs[len(costs)-1]
	return &s
}
