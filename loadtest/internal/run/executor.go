package run

import (
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
)

// joinWithin bounds each join.
const joinWithin = 20 * time.Second

// joinGrace is how long the run waits at its end for joins under way; those
// that have not succeeded by then count as failed.
const joinGrace = 5 * time.Second

// executor makes subscribers join and leave as the scenario's load says (in
// k6's words a ramping-vus executor in closed mode, a ramping-arrival-rate one
// in open mode).
type executor struct {
	r          *runner
	load       scenario.Load
	total      int
	rng        *rand.Rand
	arrivedVUs int // VUs used so far in open mode

	mu      sync.Mutex
	free    []vu    // closed mode: VUs that are not in use
	failed  []retry // closed mode: VUs whose join failed, oldest first
	joined  map[*subscriber]struct{}
	outages map[int]outage // by index of the VU
	pending int
	joins   sync.WaitGroup
	wg      sync.WaitGroup

	tokens float64
	last   time.Time
}

func newExecutor(r *runner, total int) *executor {
	e := &executor{r: r, load: r.s.Load, total: total, joined: map[*subscriber]struct{}{}, outages: map[int]outage{}, last: time.Now(), rng: rand.New(rand.NewPCG(r.s.Seed, 0x63726f7764))}
	for i := total - 1; i >= 0; i-- {
		e.free = append(e.free, r.vu(i))
	}
	if e.load.Mode != scenario.Open {
		for pop, n := range e.byPopulation(e.load.Peak(total)) {
			pop.mu.Lock()
			pop.planned = n
			pop.mu.Unlock()
		}
	}
	return e
}

// size returns how many subscribers have joined and how many joins are under way.
func (e *executor) size() (joined, pending int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.joined), e.pending
}

// tick brings the population to its target; at is the time since the measured
// part began, negative in the warm-up.
func (e *executor) tick(now time.Time, at time.Duration) {
	elapsed := now.Sub(e.last)
	e.last = now
	target := e.load.Target(at, e.total)
	if e.load.Mode == scenario.Open {
		e.arrivals(now, elapsed, target)
		return
	}
	e.tokens = min(e.tokens+elapsed.Seconds()*e.load.JoinRate, max(1, e.load.JoinRate/10))
	e.churn(elapsed)
	e.freeRetries(now)
	joined, pending := e.size()
	want := int(math.Round(target))
	for ; joined+pending < want && e.tokens >= 1; pending++ {
		if pending >= e.load.MaxPending {
			break // not dropped: closed populations wait
		}
		v, ok := e.takeVU()
		if !ok {
			break
		}
		e.tokens--
		e.join(v, now, time.Time{})
	}
	for ; joined > want; joined-- {
		e.leave(e.highest())
	}
	e.endOutagesFrom(now, want)
}

// arrivals starts Poisson-distributed joins at the given rate per second,
// whatever the population is, and makes subscribers leave when their stay is
// over.
func (e *executor) arrivals(now time.Time, elapsed time.Duration, rate float64) {
	for range poisson(e.rng, rate*elapsed.Seconds()) {
		v := e.r.vu(e.arrivedVUs)
		e.arrivedVUs++
		if _, pending := e.size(); pending >= e.load.MaxPending {
			v.pop.mu.Lock()
			v.pop.joins.Dropped++
			v.pop.mu.Unlock()
			continue
		}
		stay := time.Duration(e.rng.ExpFloat64() * float64(e.load.Stay))
		e.join(v, now, now.Add(stay))
	}
	e.mu.Lock()
	var over []*subscriber
	for sub := range e.joined {
		if now.After(sub.leaveAt) {
			over = append(over, sub)
		}
	}
	e.mu.Unlock()
	for _, sub := range over {
		e.leave(sub)
	}
}

// poisson draws from a Poisson distribution with a small mean (Knuth's method).
func poisson(rng *rand.Rand, mean float64) int {
	limit, p, n := math.Exp(-mean), 1.0, 0
	for {
		if p *= rng.Float64(); p <= limit {
			return n
		}
		n++
	}
}

// churn replaces subscribers at the rate that the half-life gives.
func (e *executor) churn(elapsed time.Duration) {
	if e.load.Churn == nil {
		return
	}
	joined, _ := e.size()
	mean := float64(joined) * math.Ln2 * elapsed.Seconds() / e.load.Churn.HalfLife.Seconds()
	for range poisson(e.rng, mean) {
		e.leave(e.anySubscriber())
	}
}

// anySubscriber returns one that has joined, nil if none has.
func (e *executor) anySubscriber() *subscriber {
	e.mu.Lock()
	defer e.mu.Unlock()
	for sub := range e.joined {
		return sub
	}
	return nil
}

// highest returns the subscriber with the highest VU index, nil if there is
// none: a population shrinks from the end, so that each path keeps its share.
func (e *executor) highest() *subscriber {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out *subscriber
	for sub := range e.joined {
		if out == nil || sub.vu.index > out.vu.index {
			out = sub
		}
	}
	return out
}

// subscribers returns those that have joined.
func (e *executor) subscribers() []*subscriber {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make([]*subscriber, 0, len(e.joined))
	for sub := range e.joined {
		out = append(out, sub)
	}
	return out
}

// awaitJoins waits for joins under way, for at most the given time.
func (e *executor) awaitJoins(most time.Duration) {
	const beat = 20 * time.Millisecond
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for range int(most / beat) {
		if _, pending := e.size(); pending == 0 {
			return
		}
		e.sendFeedback(<-ticker.C)
	}
}

// close makes all subscribers leave; their counts are then complete. The run's
// context must have ended, so that no join succeeds any more. The media ended at
// end, in ns of Unix time.
func (e *executor) close(end int64) {
	e.joins.Wait()
	for _, sub := range e.subscribers() {
		e.mu.Lock()
		_, joined := e.joined[sub]
		delete(e.joined, sub)
		e.mu.Unlock()
		if joined {
			sub.rcv.setLastMessages(e.r.publishers.lastMessages())
			e.finish(sub, departure{complete: true, end: end})
		}
	}
	e.wg.Wait()
	for _, vu := range slices.Collect(maps.Keys(e.outages)) {
		e.endOutage(vu, time.Unix(0, end))
	}
}
