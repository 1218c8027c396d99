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

	"github.com/openova-io/bp-relay/loadtest/flow"
	"github.com/openova-io/bp-relay/loadtest/judge"
	"github.com/openova-io/bp-relay/loadtest/probe"
	"github.com/openova-io/bp-relay/loadtest/report"
	"github.com/openova-io/bp-relay/loadtest/scenario"
)

// Tool is this program in reports.
func Tool() report.Tool {
	t := report.Tool{Name: "relay-loadtest", Version: "devel", Go: runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				t.Version = s.Value[:min(12, len(s.Value))]
			}
		}
	}
	return t
}

// snapshot is the report of what was measured so far, without the ledger.
func (r *runner) snapshot() *report.Report {
	if c := r.seconds; c.measuring && !c.stopped {
		c.ps = c.watch.Processes()
		var err error
		if c.health, err = c.self.Now(); err != nil {
			r.fault(fmt.Errorf("own health: %w", err))
		}
	}
	return r.make(r.cast.sent(), nil)
}

// report is that of the whole run.
func (r *runner) report(sent report.Sent) *report.Report {
	rep := r.make(sent, r.ledger())
	rep.Void = slices.Concat(r.void, r.silent(rep))
	judge.Judge(rep, r.s.Thresholds)
	return rep
}

// silent are paths of which nothing can be said: nothing came to those who were
// there, and nothing is known to be lost, since no packet that could be told
// apart had come before.
func (r *runner) silent(rep *report.Report) []string {
	var out []string
	for _, p := range rep.Paths {
		if n := r.seconds.present[p.Name]; n > 0 && rep.Total.Sent.MeasuredPackets > 0 && p.Received.MeasuredPackets == 0 && p.Received.Lost == 0 {
			out = append(out, fmt.Sprintf("nothing came to %d subscribers on %s in the measured part, and what they missed cannot be counted", n, p.Name))
		}
	}
	return out
}

// ledger settles what became of each packet.
func (r *runner) ledger() []report.Hop {
	var pubs []flow.Publication
	for _, p := range r.cast.publishers() {
		pubs = append(pubs, p.Publications()...)
	}
	var subs []flow.Subscription
	for _, l := range r.lanes {
		for _, s := range l.shards {
			s.mu.Lock()
			subs = append(subs, s.settled...)
			s.mu.Unlock()
		}
	}
	return flow.Settle(pubs, subs)
}

func (r *runner) make(sent report.Sent, ledger []report.Hop) *report.Report {
	c := r.seconds
	raw, err := r.s.JSON()
	if err != nil {
		r.fault(err)
	}
	part, bound := r.host()
	if c.ps == nil { // nothing was measured yet
		c.ps = []report.Process{}
	}
	if c.points == nil {
		c.points = []report.Point{}
	}
	rep := &report.Report{
		Schema: report.Schema, Tool: Tool(), Name: r.s.Name, Kind: r.s.Kind, Scenario: raw, Ledger: ledger, Timeline: c.points,
		Started: c.begin.UTC(), Seconds: c.seconds, Processes: c.ps, Thresholds: []report.Check{},
	}
	if rep.Seconds == 0 {
		rep.Seconds = max(0, time.Since(c.begin).Seconds())
	}
	part.Started, part.Seconds = rep.Started, rep.Seconds
	rep.Parts = []report.Part{part}
	rep.Provenance = r.provenance(bound)
	total := newPath(report.Total)
	for _, l := range r.lanes {
		p := r.path(l, sent)
		if ledger != nil { // it knows what was lost before the first packet and after the last
			_, lost := l.foreign()
			p.Received.Lost = flow.Lost(ledger, l.name) + lost
			p.Received.Expected = p.Received.Packets + p.Received.Lost
		}
		total.Add(p)
		if slices.Contains(r.s.Paths, l.name) {
			rep.Paths = append(rep.Paths, p)
		}
	}
	rep.Total = total
	unstamped(rep)
	rep.Self = r.self()
	rep.Parts[0].RcvbufErrors = rep.Self.RcvbufErrors
	for i := range rep.Processes {
		if p := &rep.Processes[i]; p.Name == report.Generator {
			p.SocketDrops = rep.Self.SocketDrops
		}
	}
	r.costs(rep)
	rep.Taxes = report.Taxes(rep)
	rep.Errors = r.errors()
	return rep
}

// unstamped takes out latencies of which there are none: nobody was measured.
func unstamped(rep *report.Report) {
	if rep.Total.Latency.Count() == 0 {
		rep.Total.Latency = nil
	}
	for i := range rep.Paths {
		if rep.Paths[i].Latency.Count() == 0 {
			rep.Paths[i].Latency = nil
		}
	}
}

func (r *runner) provenance(bound *float64) report.Provenance {
	p := report.Provenance{
		Clock: "kernel receive time (SO_TIMESTAMPNS) minus intended send time (abs-capture-time), one host", ClockBoundMs: bound, BWE: r.s.BWE,
	}
	streams := false
	for _, l := range r.lanes {
		l.mu.Lock()
		p.Witnesses += l.witnesses
		p.HeaderOnly += l.headers
		l.mu.Unlock()
		streams = streams || l.name == scenario.TURNTCP || l.name == scenario.TURNTLS
	}
	if streams {
		p.Notes = append(p.Notes, "turn-tcp and turn-tls: packets of a stream have no kernel time of their own; theirs is when they were read")
	}
	if !*r.s.NACK {
		p.Notes = append(p.Notes, "NACK was switched off in the scenario: nothing was sent again")
	}
	if !r.part().Publishes {
		p.Notes = append(p.Notes, "publishers were not this worker's: what its subscribers lost before the SFU counts as lost after it")
	}
	var foreign int64
	for _, l := range r.lanes {
		n, _ := l.foreign()
		foreign += n
	}
	if foreign > 0 {
		p.Notes = append(p.Notes, fmt.Sprintf("%d streams were of somebody else's tracks, whose packets carry no stamps: they have no latency, and of what they lost it is not known where: it is not in the ledger", foreign))
	}
	if r.s.Fault != nil {
		p.Notes = append(p.Notes, "the scenario dropped or delayed packets in the generator's own sockets (fault)")
	}
	if r.engine.Reactor.Grouped.Load() > 0 {
		p.Notes = append(p.Notes, fmt.Sprintf("sockets are read up to %s after the first packet came, which the kernel's times take out of latencies", r.engine.Reactor.Gather()))
	}
	return p
}

func newPath(name string) report.Path {
	return report.Path{
		Name: name, Latency: report.NewHist(), Jitter: report.NewHist(), Pairs: map[string]int{},
		Joins:    report.Joins{Time: report.NewHist(), FirstPacket: report.NewHist(), FirstFrame: report.NewHist()},
		Received: report.Received{MessageLatency: report.NewHist()},
	}
}

func (r *runner) path(l *lane, sent report.Sent) report.Path {
	all := l.now()
	p := newPath(l.name)
	l.mu.Lock()
	defer l.mu.Unlock()
	joins := l.joins
	joins.Time, joins.FirstPacket, joins.FirstFrame = l.time.Clone(), l.firstPacket.Clone(), l.firstFrame.Clone()
	p.Joins = joins
	p.Publishers, p.Subscribers, p.Wrong, p.Pairs = l.mostPublishers, l.most, l.wrong, maps.Clone(l.pairs)
	p.PlannedSubscribers, p.MissingSubscribers = l.planned, l.missing
	c := r.seconds
	p.Received = all.Received
	if c.measuring {
		end := all
		if c.stopped {
			end = c.end[l.name]
		}
		p.Received.MeasuredPackets, p.Received.MeasuredBytes = end.Packets-c.base[l.name].Packets, end.Bytes-c.base[l.name].Bytes
	}
	p.Received.MessageLatency = r.seconds.messages[l.name].Clone()
	p.Latency, p.Jitter = r.seconds.latency[l.name].Clone(), r.seconds.jitter[l.name].Clone()
	if l.name == r.s.PublishPath {
		p.Sent = sent
		if c.measuring {
			end := sent
			if c.stopped {
				end = c.endSent
			}
			p.Sent.MeasuredPackets, p.Sent.MeasuredBytes = end.Packets-c.baseSent.Packets, end.Bytes-c.baseSent.Bytes
		}
	}
	return p
}

// self is the generator's own health.
func (r *runner) self() report.Self {
	c, s := r.seconds, &r.engine.Reactor.Stats
	out := report.Self{
		Lag: c.lag.Clone(), ReadLag: c.readLag.Clone(), SocketDrops: s.SocketDrops.Load(), SendErrors: s.SendErrors.Load(),
		QueueDrops: s.QueueDrops.Load() + s.Truncated.Load(),
	}
	var drops int64
	for _, l := range r.lanes {
		drops += l.now().drops
	}
	out.SocketDrops = max(out.SocketDrops, drops)
	c.health.Fill(&out)
	d := func(i int) int64 {
		end := c.statsEnd[i]
		if !c.stopped {
			end = r.stats()[i]
		}
		return end - c.stats[i]
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

// costs relates processes' CPU time to what went through them in the measured
// part: for the generator what it sent and received, for the SFU what it
// delivered, for TURN what it relayed.
func (r *runner) costs(rep *report.Report) {
	c := r.seconds
	if !c.stopped {
		return
	}
	gbit := func(bytes int64) float64 { return float64(bytes) * 8 / 1e9 }
	var delivered, relayed float64
	for _, l := range r.lanes {
		g := gbit(c.end[l.name].Bytes - c.base[l.name].Bytes)
		delivered += g
		if report.Relayed(l.name) {
			relayed += g
		}
	}
	sent := gbit(c.endSent.Bytes - c.baseSent.Bytes)
	if report.Relayed(r.s.PublishPath) {
		relayed += sent
	}
	per := map[string]float64{report.Generator: delivered + sent, report.SFU: delivered, report.TURN: relayed}
	for i := range rep.Processes {
		p := &rep.Processes[i]
		if g := per[p.Name]; g > 0 {
			v := math.Round(p.CPUSeconds/g*1e4) / 1e4
			p.CPUSecondsPerGbit = &v
		}
	}
}

// errors are what went wrong, the most frequent first.
func (r *runner) errors() []report.ErrorLine {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []report.ErrorLine
	for text, n := range r.faults {
		out = append(out, report.ErrorLine{Text: text, Count: n})
	}
	if r.seconds.watch != nil {
		for _, n := range r.seconds.watch.Notes() {
			out = append(out, report.ErrorLine{Text: n, Count: 1})
		}
	}
	slices.SortFunc(out, func(a, b report.ErrorLine) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Text, b.Text))
	})
	return out
}

// host is this machine in the report.
func (r *runner) host() (report.Part, *float64) {
	part := report.Part{Worker: r.part().Worker, Workers: r.part().Workers, Cores: runtime.NumCPU()}
	if h, err := probe.ReadHost(); err == nil {
		part.Host, part.Kernel = h.Name, h.Kernel
	}
	var bound *float64
	if c, err := probe.ReadClock(); err == nil {
		bound = c.BoundMs()
	}
	return part, bound
}
