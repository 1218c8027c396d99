package run

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/flow"
	"github.com/openova-io/bp-relay/loadtest/internal/judge"
	"github.com/openova-io/bp-relay/loadtest/internal/probe"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
)

// Tool describes this program in reports.
func Tool() result.Tool {
	t := result.Tool{Name: "relay-loadtest", Version: "devel", Go: runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				t.Version = s.Value[:min(12, len(s.Value))]
			}
		}
	}
	return t
}

// snapshot returns the report of what was measured so far, without the loss
// attribution.
func (r *runner) snapshot() *result.Report {
	if tl := r.timeline; tl.measuring && !tl.stopped {
		tl.ps = tl.watch.Processes()
		var err error
		if tl.selfHealth, err = tl.self.Now(); err != nil {
			r.fault(fmt.Errorf("own health: %w", err))
		}
	}
	return r.buildReport(r.publishers.totals(), nil)
}

// report returns the judged report of the whole run.
func (r *runner) report(sent result.Sent) *result.Report {
	rep := r.buildReport(sent, r.lossAttribution())
	rep.Void = slices.Concat(r.invalid, r.unmeasured(rep))
	judge.Judge(rep, r.s.Thresholds)
	return rep
}

// unmeasured returns a sentence about each path whose subscribers received
// nothing in the measured part, and whose loss is unknown because they had
// received no packet before.
func (r *runner) unmeasured(rep *result.Report) []string {
	var out []string
	for _, p := range rep.Paths {
		if n := r.timeline.present[p.Name]; n > 0 && rep.Total.Sent.MeasuredPackets > 0 && p.Received.MeasuredPackets == 0 && p.Received.Lost == 0 {
			out = append(out, fmt.Sprintf("%d subscribers on %s received nothing in the measured part, so their loss cannot be counted", n, p.Name))
		}
	}
	return out
}

// lossAttribution attributes each lost packet to a hop.
func (r *runner) lossAttribution() []result.Hop {
	var pubs []flow.Publication
	for _, p := range r.publishers.transports() {
		pubs = append(pubs, p.Publications()...)
	}
	var subs []flow.Subscription
	for _, pop := range r.populations {
		for _, s := range pop.shards {
			s.mu.Lock()
			subs = append(subs, s.subscriptions...)
			s.mu.Unlock()
		}
	}
	return flow.Attribute(pubs, subs)
}

// buildReport fills the report; hops is nil before the end of the run.
func (r *runner) buildReport(sent result.Sent, hops []result.Hop) *result.Report {
	tl := r.timeline
	raw, err := r.s.JSON()
	if err != nil {
		r.fault(err)
	}
	part, bound := r.host()
	if tl.ps == nil { // not measuring yet
		tl.ps = []result.Usage{}
	}
	if tl.points == nil {
		tl.points = []result.Point{}
	}
	rep := &result.Report{
		Schema: result.Schema, Tool: Tool(), Name: r.s.Name, Kind: r.s.Kind, Scenario: raw, LossAttribution: hops, Timeline: tl.points,
		Started: tl.begin.UTC(), Seconds: tl.seconds, Processes: tl.ps, Thresholds: []result.Check{},
	}
	if rep.Seconds == 0 {
		rep.Seconds = max(0, time.Since(tl.begin).Seconds())
	}
	part.Started, part.Seconds = rep.Started, rep.Seconds
	rep.Parts = []result.Part{part}
	rep.Provenance = r.provenance(bound)
	total := newPath(result.Total)
	for _, pop := range r.populations {
		p := r.path(pop, sent)
		if hops != nil { // they include losses before the first packet and after the last
			_, lost := pop.foreign()
			p.Received.Lost = flow.Lost(hops, pop.name) + lost
			p.Received.Expected = p.Received.Packets + p.Received.Lost
		}
		total.Add(p)
		if slices.Contains(r.s.Paths, pop.name) {
			rep.Paths = append(rep.Paths, p)
		}
	}
	rep.Total = total
	unstamped(rep)
	rep.Self = r.self()
	rep.Parts[0].RcvbufErrors = rep.Self.RcvbufErrors
	for i := range rep.Processes {
		if p := &rep.Processes[i]; p.Name == result.Generator {
			p.SocketDrops = rep.Self.SocketDrops
		}
	}
	r.costs(rep)
	rep.Taxes = result.Taxes(rep)
	rep.Errors = r.errors()
	return rep
}

// unstamped removes latencies without a sample.
func unstamped(rep *result.Report) {
	if rep.Total.Latency.Count() == 0 {
		rep.Total.Latency = nil
	}
	for i := range rep.Paths {
		if rep.Paths[i].Latency.Count() == 0 {
			rep.Paths[i].Latency = nil
		}
	}
}

func (r *runner) provenance(bound *float64) result.Provenance {
	p := result.Provenance{
		Clock: "kernel receive time (SO_TIMESTAMPNS) minus intended send time (abs-capture-time), one host", ClockBoundMs: bound, BWE: r.s.BWE,
	}
	streams := false
	for _, pop := range r.populations {
		pop.mu.Lock()
		p.Witnesses += pop.witnesses
		p.HeaderOnly += pop.headers
		pop.mu.Unlock()
		streams = streams || pop.name == scenario.TURNTCP || pop.name == scenario.TURNTLS
	}
	if streams {
		p.Notes = append(p.Notes, "turn-tcp and turn-tls: packets in a TCP stream have no kernel receive time; the time of reading them is used")
	}
	if !*r.s.NACK {
		p.Notes = append(p.Notes, "NACK was switched off in the scenario: nothing was retransmitted")
	}
	if !r.part().Publishes {
		p.Notes = append(p.Notes, "another worker published: what this worker's subscribers lost before the SFU counts as lost after it")
	}
	var foreign int64
	for _, pop := range r.populations {
		n, _ := pop.foreign()
		foreign += n
	}
	if foreign > 0 {
		p.Notes = append(p.Notes, fmt.Sprintf("%d streams were of other publishers' tracks, whose packets carry no stamps: they have no latency, and their losses are not attributed to a hop", foreign))
	}
	if r.s.Fault != nil {
		p.Notes = append(p.Notes, "the scenario dropped or delayed packets in the generator's own sockets (fault)")
	}
	if r.engine.Reactor.Grouped.Load() > 0 {
		p.Notes = append(p.Notes, fmt.Sprintf("sockets are read up to %s after the first packet arrived; latencies exclude this wait, since they end at the kernel's receive time", r.engine.Reactor.Gather()))
	}
	return p
}

func newPath(name string) result.Path {
	return result.Path{
		Name: name, Latency: result.NewHist(), Jitter: result.NewHist(), Pairs: map[string]int{},
		Joins:    result.Joins{Time: result.NewHist(), FirstPacket: result.NewHist(), FirstFrame: result.NewHist()},
		Received: result.Received{MessageLatency: result.NewHist()},
	}
}

func (r *runner) path(pop *population, sent result.Sent) result.Path {
	all := pop.sums()
	p := newPath(pop.name)
	pop.mu.Lock()
	defer pop.mu.Unlock()
	joins := pop.joins
	joins.Time, joins.FirstPacket, joins.FirstFrame = pop.joinTime.Clone(), pop.firstPacket.Clone(), pop.firstFrame.Clone()
	p.Joins = joins
	p.Publishers, p.Subscribers, p.Wrong, p.Pairs = pop.peakPublishers, pop.peak, pop.wrongPath, maps.Clone(pop.pairs)
	p.PlannedSubscribers, p.MissingSubscribers = pop.planned, pop.missing
	tl := r.timeline
	p.Received = all.Received
	if tl.measuring {
		end := all
		if tl.stopped {
			end = tl.endSums[pop.name]
		}
		p.Received.MeasuredPackets, p.Received.MeasuredBytes = end.Packets-tl.base[pop.name].Packets, end.Bytes-tl.base[pop.name].Bytes
	}
	p.Received.MessageLatency = r.timeline.messages[pop.name].Clone()
	p.Latency, p.Jitter = r.timeline.latency[pop.name].Clone(), r.timeline.jitter[pop.name].Clone()
	if pop.name == r.s.PublishPath {
		p.Sent = sent
		if tl.measuring {
			end := sent
			if tl.stopped {
				end = tl.endSent
			}
			p.Sent.MeasuredPackets, p.Sent.MeasuredBytes = end.Packets-tl.baseSent.Packets, end.Bytes-tl.baseSent.Bytes
		}
	}
	return p
}

// self returns the generator's own health.
func (r *runner) self() result.Self {
	tl, s := r.timeline, &r.engine.Reactor.Stats
	out := result.Self{
		Lag: tl.lag.Clone(), ReadLag: tl.readLag.Clone(), SocketDrops: s.SocketDrops.Load(), SendErrors: s.SendErrors.Load(),
		QueueDrops: s.QueueDrops.Load() + s.Truncated.Load(),
	}
	var drops int64
	for _, pop := range r.populations {
		drops += pop.sums().drops
	}
	out.SocketDrops = max(out.SocketDrops, drops)
	tl.selfHealth.Fill(&out)
	d := func(i int) int64 {
		end := tl.statsEnd[i]
		if !tl.stopped {
			end = r.stats()[i]
		}
		return end - tl.stats[i]
	}
	out.Reads, out.Sends = d(0), d(2)
	if out.Reads > 0 {
		out.PacketsPerRead = float64(d(1)) / float64(out.Reads)
	}
	if out.Sends > 0 {
		out.PacketsPerSend = float64(d(3)) / float64(out.Sends)
	}
	return out
}

// costs divides each process's CPU time by the traffic that it carried in the
// measured part: for the generator what it sent and received, for the SFU what
// it delivered, for TURN what it relayed.
func (r *runner) costs(rep *result.Report) {
	tl := r.timeline
	if !tl.stopped {
		return
	}
	gbit := func(bytes int64) float64 { return float64(bytes) * 8 / 1e9 }
	var delivered, relayed float64
	for _, pop := range r.populations {
		g := gbit(tl.endSums[pop.name].Bytes - tl.base[pop.name].Bytes)
		delivered += g
		if result.Relayed(pop.name) {
			relayed += g
		}
	}
	sent := gbit(tl.endSent.Bytes - tl.baseSent.Bytes)
	if result.Relayed(r.s.PublishPath) {
		relayed += sent
	}
	per := map[string]float64{result.Generator: delivered + sent, result.SFU: delivered, result.TURN: relayed}
	for i := range rep.Processes {
		p := &rep.Processes[i]
		if g := per[p.Name]; g > 0 {
			v := math.Round(p.CPUSeconds/g*1e4) / 1e4
			p.CPUSecondsPerGbit = &v
		}
	}
}

// errors returns what went wrong, the most frequent first.
func (r *runner) errors() []result.ErrorLine {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []result.ErrorLine
	for text, n := range r.faults {
		out = append(out, result.ErrorLine{Text: text, Count: n})
	}
	if r.timeline.watch != nil {
		for _, n := range r.timeline.watch.Notes() {
			out = append(out, result.ErrorLine{Text: n, Count: 1})
		}
	}
	slices.SortFunc(out, func(a, b result.ErrorLine) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Text, b.Text))
	})
	return out
}

// host describes this host in the report, with the bound of its clock's offset
// in ms, nil if that is unknown.
func (r *runner) host() (result.Part, *float64) {
	part := result.Part{Worker: r.part().Worker, Workers: r.part().Workers, Cores: runtime.NumCPU()}
	if h, err := probe.ReadHost(); err == nil {
		part.Host, part.Kernel = h.Name, h.Kernel
	}
	var bound *float64
	if c, err := probe.ReadClock(); err == nil {
		bound = c.BoundMs()
	}
	return part, bound
}
