package run

import (
	"fmt"
	"time"

	"github.com/openova-io/bp-relay/loadtest/judge"
	"github.com/openova-io/bp-relay/loadtest/probe"
	"github.com/openova-io/bp-relay/loadtest/report"
	"github.com/openova-io/bp-relay/loadtest/report/live"
)

// clock makes the timeline and keeps what is of the measured part only.
type clock struct {
	begin     time.Time
	next      time.Time
	measuring bool
	stopped   bool
	seconds   float64

	watch  *probe.Watch
	self   *probe.Self
	health probe.Health
	ps     []report.Process
	points []report.Point

	latency, messages, jitter map[string]*report.Hist // of the measured part, by path
	second                    map[string]*report.Hist
	last                      map[string]sums
	lastSent                  report.Sent
	base                      map[string]sums // when the measured part began
	baseSent                  report.Sent
	end                       map[string]sums
	present, seated           map[string]int // subscribers when it ended, and that had come in until then
	endSent                   report.Sent
	lag, readLag              *report.Hist
	stats                     [4]int64 // reads, media, sends, sent, when the measured part began
	statsEnd                  [4]int64
}

func newClock(r *runner, begin time.Time) *clock {
	c := &clock{
		begin: begin, next: time.Now().Add(time.Second), latency: map[string]*report.Hist{}, messages: map[string]*report.Hist{},
		jitter: map[string]*report.Hist{}, second: map[string]*report.Hist{}, last: map[string]sums{}, base: map[string]sums{}, end: map[string]sums{}, present: map[string]int{}, seated: map[string]int{},
		lag: report.NewHist(), readLag: report.NewHist(),
	}
	for _, l := range r.lanes {
		c.latency[l.name], c.messages[l.name], c.jitter[l.name], c.second[l.name] = report.NewHist(), report.NewHist(), report.NewHist(), report.NewHist()
	}
	return c
}

func (r *runner) stats() [4]int64 {
	s := &r.engine.Reactor.Stats
	return [4]int64{s.Reads.Load(), s.Media.Load(), s.Sends.Load(), s.SentMedia.Load()}
}

// measure begins the measured part: what was measured so far is forgotten.
func (c *clock) measure(r *runner) error {
	var err error
	if c.watch, err = probe.Start(r.processes()); err != nil {
		return err
	}
	if c.self, err = probe.StartSelf(); err != nil {
		return err
	}
	c.collect(r)
	for _, m := range []map[string]*report.Hist{c.latency, c.messages, c.jitter} {
		for _, h := range m {
			h.Reset()
		}
	}
	c.lag.Reset()
	c.readLag.Reset()
	c.measuring = true
	c.begin = time.Now()
	c.baseSent = r.cast.sent()
	c.lastSent = c.baseSent
	for _, l := range r.lanes {
		c.base[l.name] = l.now()
		c.last[l.name] = c.base[l.name]
		l.mu.Lock()
		l.lastJoins, l.lastFailed = l.joins.Succeeded, l.joins.Failed
		l.mu.Unlock()
	}
	c.stats = r.stats()
	c.next = c.begin.Add(time.Second)
	return nil
}

// stopMeasuring ends the measured part.
func (c *clock) stopMeasuring(r *runner) {
	if !c.measuring || c.stopped {
		return
	}
	const least = 50 * time.Millisecond // a shorter point says nothing
	if now := time.Now(); now.After(c.next.Add(least - time.Second)) {
		c.tick(r, now)
	} else {
		c.collect(r)
	}
	c.stopped = true
	c.seconds = time.Since(c.begin).Seconds()
	c.statsEnd = r.stats()
	c.endSent = r.cast.sent()
	for _, l := range r.lanes {
		c.end[l.name] = l.now()
		l.mu.Lock()
		c.present[l.name], c.seated[l.name] = l.present, l.seated
		l.mu.Unlock()
	}
	c.ps = c.watch.Stop()
	h, err := c.self.Stop()
	if err != nil {
		r.fault(fmt.Errorf("own health: %w", err))
	}
	c.health = h
}

func (c *clock) due(now time.Time) bool { return !now.Before(c.next) }

// collect moves what shards and pacers have into the histograms.
func (c *clock) collect(r *runner) {
	for _, l := range r.lanes {
		second := c.second[l.name]
		second.Reset()
		for _, s := range l.shards {
			s.mu.Lock()
			second.Add(s.latency)
			s.latency.Reset()
			c.messages[l.name].Add(s.messages)
			s.messages.Reset()
			c.jitter[l.name].Add(s.jitter)
			s.jitter.Reset()
			s.mu.Unlock()
		}
		c.latency[l.name].Add(second)
	}
	for _, p := range r.pacers {
		p.Lag(c.lag)
	}
	r.engine.Reactor.ReadLag(c.readLag)
}

// now sums up a path.
func (l *lane) now() sums {
	var all sums
	for _, s := range l.shards {
		s.mu.Lock()
		all.add(s.now())
		s.mu.Unlock()
	}
	return all
}

// tick ends a second: a point of the timeline.
func (c *clock) tick(r *runner, now time.Time) {
	span := now.Sub(c.next).Seconds() + 1
	c.next = now.Add(time.Second)
	c.collect(r)
	p := report.Point{T: now.Sub(c.begin).Seconds()}
	sent := r.cast.sent()
	for _, l := range r.lanes {
		p.Paths = append(p.Paths, c.point(l, span))
	}
	for i := range p.Paths {
		if p.Paths[i].Name == r.s.PublishPath {
			p.Paths[i].SentBps = float64(sent.Bytes-c.lastSent.Bytes) * 8 / span
		}
	}
	c.lastSent = sent
	if c.watch != nil && !c.stopped {
		p.CPU = c.watch.Sample()
		if err := c.self.Sample(); err != nil {
			r.fault(fmt.Errorf("own health: %w", err))
		}
	}
	c.points = append(c.points, p)
	if r.o.View != nil {
		r.o.View.Update(c.progress(r, now, p))
	}
	if r.o.Publish != nil {
		r.o.Publish(r.snapshot())
	}
}

func (c *clock) point(l *lane, span float64) report.PointPath {
	all, was := l.now(), c.last[l.name]
	c.last[l.name] = all
	h := c.second[l.name]
	l.mu.Lock()
	defer l.mu.Unlock()
	p := report.PointPath{
		Name: l.name, Participants: l.present + l.publishers,
		ReceivedBps: float64(all.Bytes-was.Bytes) * 8 / span, Packets: all.Packets - was.Packets, Lost: max(0, all.Lost-was.Lost),
		LatencyP50Ms: report.Ms(h.Quantile(.5)), LatencyP99Ms: report.Ms(h.Quantile(.99)),
		Joins: l.joins.Succeeded - l.lastJoins, Failed: l.joins.Failed - l.lastFailed, Freezes: max(0, all.Freezes-was.Freezes),
	}
	l.lastJoins, l.lastFailed = l.joins.Succeeded, l.joins.Failed
	return p
}

func (c *clock) progress(r *runner, now time.Time, p report.Point) live.Progress {
	out := live.Progress{Elapsed: now.Sub(c.begin), Total: r.s.Load.Length(), Phase: "warm-up", Point: p}
	if c.measuring {
		out.Phase = "measuring"
	}
	out.Health = c.unwell(r)
	out.Elapsed += r.s.Load.Warmup
	out.Total += r.s.Load.Warmup
	return out
}

// unwell says what is wrong with this process now; "" when nothing is.
func (c *clock) unwell(r *runner) string {
	s := &r.engine.Reactor.Stats
	switch limit := judge.DefaultLimits(); {
	case c.lag.Quantile(.99) > limit.LagP99:
		return fmt.Sprintf("packets are sent late: p99 %s", c.lag.Quantile(.99).Round(100*time.Microsecond))
	case s.SocketDrops.Load() > 0:
		return fmt.Sprintf("%d packets were dropped at our own sockets", s.SocketDrops.Load())
	case s.SendErrors.Load() > 0:
		return fmt.Sprintf("%d packets could not be sent", s.SendErrors.Load())
	}
	return ""
}
