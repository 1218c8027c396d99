package run

import (
	"fmt"
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/judge"
	"github.com/openova-io/bp-relay/loadtest/internal/probe"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// timeline appends one point per second and keeps the values of the measured
// part.
type timeline struct {
	begin     time.Time
	next      time.Time
	measuring bool
	stopped   bool
	seconds   float64

	watch      *probe.Watch
	self       *probe.Self
	selfHealth probe.Health
	ps         []result.Usage
	points     []result.Point

	latency, messages, jitter map[string]*result.Hist // of the measured part; all maps are by path
	perSecond                 map[string]*result.Hist
	last                      map[string]sums
	lastSent                  result.Sent
	base                      map[string]sums // at the start of the measured part
	baseSent                  result.Sent
	endSums                   map[string]sums
	present, joined           map[string]int // subscribers at its end, and joins until then
	endSent                   result.Sent
	lag, readLag              *result.Hist
	stats                     [4]int64 // reads, media, sends, sent, at the start of the measured part
	statsEnd                  [4]int64
}

func newTimeline(r *runner, begin time.Time) *timeline {
	tl := &timeline{
		begin: begin, next: time.Now().Add(time.Second), latency: map[string]*result.Hist{}, messages: map[string]*result.Hist{},
		jitter: map[string]*result.Hist{}, perSecond: map[string]*result.Hist{}, last: map[string]sums{}, base: map[string]sums{}, endSums: map[string]sums{}, present: map[string]int{}, joined: map[string]int{},
		lag: result.NewHist(), readLag: result.NewHist(),
	}
	for _, pop := range r.populations {
		tl.latency[pop.name], tl.messages[pop.name], tl.jitter[pop.name], tl.perSecond[pop.name] = result.NewHist(), result.NewHist(), result.NewHist(), result.NewHist()
	}
	return tl
}

func (r *runner) stats() [4]int64 {
	s := &r.engine.Reactor.Stats
	return [4]int64{s.Reads.Load(), s.Media.Load(), s.Sends.Load(), s.SentMedia.Load()}
}

// measure starts the measured part and discards what was measured before.
func (tl *timeline) measure(r *runner) error {
	var err error
	if tl.watch, err = probe.Start(r.processes()); err != nil {
		return err
	}
	if tl.self, err = probe.StartSelf(); err != nil {
		return err
	}
	tl.collect(r)
	for _, m := range []map[string]*result.Hist{tl.latency, tl.messages, tl.jitter} {
		for _, h := range m {
			h.Reset()
		}
	}
	tl.lag.Reset()
	tl.readLag.Reset()
	tl.measuring = true
	tl.begin = time.Now()
	tl.baseSent = r.publishers.totals()
	tl.lastSent = tl.baseSent
	for _, pop := range r.populations {
		tl.base[pop.name] = pop.sums()
		tl.last[pop.name] = tl.base[pop.name]
		pop.mu.Lock()
		pop.lastJoins, pop.lastFailed = pop.joins.Succeeded, pop.joins.Failed
		pop.mu.Unlock()
	}
	tl.stats = r.stats()
	tl.next = tl.begin.Add(time.Second)
	return nil
}

// stopMeasuring ends the measured part.
func (tl *timeline) stopMeasuring(r *runner) {
	if !tl.measuring || tl.stopped {
		return
	}
	const least = 50 * time.Millisecond // the rates of a shorter point mean nothing
	if now := time.Now(); now.After(tl.next.Add(least - time.Second)) {
		tl.tick(r, now)
	} else {
		tl.collect(r)
	}
	tl.stopped = true
	tl.seconds = time.Since(tl.begin).Seconds()
	tl.statsEnd = r.stats()
	tl.endSent = r.publishers.totals()
	for _, pop := range r.populations {
		tl.endSums[pop.name] = pop.sums()
		pop.mu.Lock()
		tl.present[pop.name], tl.joined[pop.name] = pop.current, pop.joined
		pop.mu.Unlock()
	}
	tl.ps = tl.watch.Stop()
	h, err := tl.self.Stop()
	if err != nil {
		r.fault(fmt.Errorf("own health: %w", err))
	}
	tl.selfHealth = h
}

func (tl *timeline) due(now time.Time) bool { return !now.Before(tl.next) }

// collect moves the values of shards and pacers into the histograms.
func (tl *timeline) collect(r *runner) {
	for _, pop := range r.populations {
		second := tl.perSecond[pop.name]
		second.Reset()
		for _, s := range pop.shards {
			s.mu.Lock()
			second.Add(s.latency)
			s.latency.Reset()
			tl.messages[pop.name].Add(s.messages)
			s.messages.Reset()
			tl.jitter[pop.name].Add(s.jitter)
			s.jitter.Reset()
			s.mu.Unlock()
		}
		tl.latency[pop.name].Add(second)
	}
	for _, p := range r.pacers {
		p.Lag(tl.lag)
	}
	r.readLag.Drain(tl.readLag)
}

// sums adds up what the population received.
func (pop *population) sums() sums {
	var all sums
	for _, s := range pop.shards {
		s.mu.Lock()
		all.add(s.sums())
		s.mu.Unlock()
	}
	return all
}

// tick ends a second and appends its point.
func (tl *timeline) tick(r *runner, now time.Time) {
	span := now.Sub(tl.next).Seconds() + 1
	tl.next = now.Add(time.Second)
	tl.collect(r)
	p := result.Point{T: now.Sub(tl.begin).Seconds()}
	sent := r.publishers.totals()
	for _, pop := range r.populations {
		p.Paths = append(p.Paths, tl.point(pop, span))
	}
	for i := range p.Paths {
		if p.Paths[i].Name == r.s.PublishPath {
			p.Paths[i].SentBps = float64(sent.Bytes-tl.lastSent.Bytes) * 8 / span
		}
	}
	tl.lastSent = sent
	if tl.watch != nil && !tl.stopped {
		p.CPU = tl.watch.Sample()
		if err := tl.self.Sample(); err != nil {
			r.fault(fmt.Errorf("own health: %w", err))
		}
	}
	tl.points = append(tl.points, p)
	if r.o.Progress != nil {
		r.o.Progress(tl.progress(r, now, p))
	}
	if r.o.Publish != nil {
		r.o.Publish(r.snapshot())
	}
}

func (tl *timeline) point(pop *population, span float64) result.PointPath {
	all, was := pop.sums(), tl.last[pop.name]
	tl.last[pop.name] = all
	h := tl.perSecond[pop.name]
	pop.mu.Lock()
	defer pop.mu.Unlock()
	p := result.PointPath{
		Name: pop.name, Participants: pop.current + pop.currentPublishers,
		ReceivedBps: float64(all.Bytes-was.Bytes) * 8 / span, Packets: all.Packets - was.Packets, Lost: max(0, all.Lost-was.Lost),
		LatencyP50Ms: result.Ms(h.Quantile(.5)), LatencyP99Ms: result.Ms(h.Quantile(.99)),
		Joins: pop.joins.Succeeded - pop.lastJoins, Failed: pop.joins.Failed - pop.lastFailed, Freezes: max(0, all.Freezes-was.Freezes),
	}
	pop.lastJoins, pop.lastFailed = pop.joins.Succeeded, pop.joins.Failed
	return p
}

func (tl *timeline) progress(r *runner, now time.Time, p result.Point) result.Progress {
	out := result.Progress{Elapsed: now.Sub(tl.begin), Total: r.s.Load.Length(), Phase: "warm-up", Point: p}
	if tl.measuring {
		out.Phase = "measuring"
	}
	out.Health = tl.health(r)
	out.Elapsed += r.s.Load.Warmup
	out.Total += r.s.Load.Warmup
	return out
}

// health describes the generator's current problem; "" if there is none.
func (tl *timeline) health(r *runner) string {
	s := &r.engine.Reactor.Stats
	switch limit := judge.DefaultLimits(); {
	case tl.lag.Quantile(.99) > limit.LagP99:
		return fmt.Sprintf("packets are sent late: p99 %s", tl.lag.Quantile(.99).Round(100*time.Microsecond))
	case s.SocketDrops.Load() > 0:
		return fmt.Sprintf("%d packets were dropped at the generator's own sockets", s.SocketDrops.Load())
	case s.SendErrors.Load() > 0:
		return fmt.Sprintf("%d packets could not be sent", s.SendErrors.Load())
	}
	return ""
}
