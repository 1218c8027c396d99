package run

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/openova-io/bp-relay/loadtest/peer"
	"github.com/openova-io/bp-relay/loadtest/scenario"
)

// joinWithin bounds each join.
const joinWithin = 20 * time.Second

// joinGrace is how long joins that are under way at the end are waited for;
// those that have not come in then have failed.
const joinGrace = 5 * time.Second

// guest is a subscriber that is in, or about to be.
type guest struct {
	seat  seat
	l     *listener
	sub   *peer.Subscriber
	until time.Time // open mode: when it leaves
}

// crowd lets subscribers in and out as the load says.
type crowd struct {
	r       *runner
	load    scenario.Load
	total   int
	rng     *rand.Rand
	started int // seats handed out in open mode

	mu      sync.Mutex
	seats   []seat // free, closed mode
	resting []rest // seats whose join failed, in order of time
	in      map[*guest]struct{}
	away    map[int]outage // seats whose guest fell out, until their next media
	pending int
	joins   sync.WaitGroup
	wg      sync.WaitGroup

	tokens float64
	last   time.Time
}

func newCrowd(r *runner, total int) *crowd {
	c := &crowd{r: r, load: r.s.Load, total: total, in: map[*guest]struct{}{}, away: map[int]outage{}, last: time.Now(), rng: rand.New(rand.NewPCG(r.s.Seed, 0x63726f7764))}
	for i := total - 1; i >= 0; i-- {
		c.seats = append(c.seats, r.seat(i))
	}
	if c.load.Mode != scenario.Open {
		for l, n := range c.places(c.load.Peak(total)) {
			l.mu.Lock()
			l.planned = n
			l.mu.Unlock()
		}
	}
	return c
}

// size is how many are in, and how many are about to be.
func (c *crowd) size() (in, pending int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.in), c.pending
}

// tick brings the population to what it is to be at a time since the measured
// part began.
func (c *crowd) tick(now time.Time, at time.Duration) {
	gap := now.Sub(c.last)
	c.last = now
	target := c.load.Target(at, c.total)
	if c.load.Mode == scenario.Open {
		c.arrivals(now, gap, target)
		return
	}
	c.tokens = min(c.tokens+gap.Seconds()*c.load.JoinRate, max(1, c.load.JoinRate/10))
	c.churn(gap)
	c.rested(now)
	in, pending := c.size()
	want := int(math.Round(target))
	for ; in+pending < want && c.tokens >= 1; pending++ {
		if pending >= c.load.MaxPending {
			break // not dropped: closed populations wait
		}
		s, ok := c.seat()
		if !ok {
			break
		}
		c.tokens--
		c.enter(s, now, time.Time{})
	}
	for ; in > want; in-- {
		c.dismiss(c.highest())
	}
	c.unwanted(now, want)
}

// arrivals lets in what the rate says, Poisson distributed, however many are
// here; who stayed long enough leaves.
func (c *crowd) arrivals(now time.Time, gap time.Duration, rate float64) {
	for range poisson(c.rng, rate*gap.Seconds()) {
		s := c.r.seat(c.started)
		c.started++
		if _, pending := c.size(); pending >= c.load.MaxPending {
			s.path.mu.Lock()
			s.path.joins.Dropped++
			s.path.mu.Unlock()
			continue
		}
		stay := time.Duration(c.rng.ExpFloat64() * float64(c.load.Stay))
		c.enter(s, now, now.Add(stay))
	}
	c.mu.Lock()
	var over []*guest
	for g := range c.in {
		if now.After(g.until) {
			over = append(over, g)
		}
	}
	c.mu.Unlock()
	for _, g := range over {
		c.dismiss(g)
	}
}

// poisson draws from a Poisson distribution of a small mean (Knuth).
func poisson(rng *rand.Rand, mean float64) int {
	limit, p, n := math.Exp(-mean), 1.0, 0
	for {
		if p *= rng.Float64(); p <= limit {
			return n
		}
		n++
	}
}

func (c *crowd) churn(gap time.Duration) {
	if c.load.Churn == nil {
		return
	}
	in, _ := c.size()
	mean := float64(in) * math.Ln2 * gap.Seconds() / c.load.Churn.HalfLife.Seconds()
	for range poisson(c.rng, mean) {
		c.dismiss(c.pick())
	}
}

// pick is any of those who are in; nil when nobody is.
func (c *crowd) pick() *guest {
	c.mu.Lock()
	defer c.mu.Unlock()
	for g := range c.in {
		return g
	}
	return nil
}

// highest is who sits on the highest place: when a population shrinks, those of its
// first places stay, so that each path keeps its share.
func (c *crowd) highest() *guest {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out *guest
	for g := range c.in {
		if out == nil || g.seat.index > out.seat.index {
			out = g
		}
	}
	return out
}

// enter begins a join.
func (c *crowd) enter(s seat, due, until time.Time) {
	c.mu.Lock()
	c.pending++
	c.mu.Unlock()
	s.path.mu.Lock()
	s.path.joins.Attempted++
	s.path.mu.Unlock()
	c.joins.Go(func() {
		g := &guest{seat: s, until: until}
		err := c.join(g, due)
		c.mu.Lock()
		c.pending--
		if err == nil {
			c.in[g] = struct{}{}
		} else if c.load.Mode != scenario.Open {
			c.resting = append(c.resting, rest{s, time.Now().Add(retryAfter)})
		}
		c.mu.Unlock()
		if err != nil {
			s.path.mu.Lock()
			if c.r.cut.Load() && c.r.ctx.Err() != nil {
				s.path.joins.Attempted-- // we gave it up ourselves
			} else {
				s.path.joins.Failed++
			}
			s.path.mu.Unlock()
			c.r.fault(fmt.Errorf("join on %s: %w", s.path.name, err))
			return
		}
		c.wg.Go(func() { c.attend(g) })
	})
}

func (c *crowd) join(g *guest, due time.Time) error {
	lane := g.seat.path
	lane.mu.Lock()
	shard := lane.shards[lane.next%shards]
	lane.next++
	lane.mu.Unlock()
	identity := fmt.Sprintf("subscriber-%d-%d-%d", c.r.part().Worker, g.seat.index, c.r.joined.Add(1))
	ctx, cancel := context.WithTimeout(c.r.ctx, joinWithin)
	defer cancel()
	cfg, err := c.r.entry(ctx, g.seat.room, identity, lane.name, false)
	if err != nil {
		return err
	}
	l := newListener(shard, lane.name, identity, due)
	l.nack, l.remb = cfg.NACK, c.r.s.BWE == "remb"
	if c.r.isWitness(g.seat) {
		l.witness = &witness{judged: c.r.o.judged}
	}
	conf := peer.SubscriberConfig{
		Sink: l, OnTracks: l.tracks, OnRTCP: l.reports, OnMute: l.muted, REMB: l.remb,
		Choose: chooser(g.seat.inRoom, c.r.s.Rooms.Subscriptions, c.r.s.Rooms.Publishers),
	}
	if c.r.s.Data != nil {
		conf.OnData = l.message
	}
	if v := c.r.s.Media.Video; v != nil && (v.Simulcast > 1 || v.SVC != "") {
		conf.Quality = quality(v, rand.New(rand.NewPCG(c.r.s.Seed, uint64(g.seat.index))))
	}
	shard.mu.Lock()
	shard.live[l] = struct{}{}
	shard.mu.Unlock()
	sub, err := peer.Subscribe(ctx, cfg, conf)
	if err != nil {
		l.leave(leaving{})
		return err
	}
	took := time.Since(due)
	if err := c.seated(g, l, sub, took); err != nil {
		l.leave(leaving{})
		return errors.Join(err, sub.Close())
	}
	return nil
}

// seated notes that a join succeeded.
func (c *crowd) seated(g *guest, l *listener, sub *peer.Subscriber, took time.Duration) error {
	lane := g.seat.path
	pair, err := sub.Pair()
	if err != nil {
		return err
	}
	l.shard.mu.Lock()
	l.sub = sub
	if l.witness != nil {
		l.witness.ctx, err = sub.Decrypter()
	}
	l.shard.mu.Unlock()
	if err != nil {
		return err
	}
	lane.mu.Lock()
	defer lane.mu.Unlock()
	lane.joins.Succeeded++
	lane.seated++
	lane.time.Record(took)
	lane.pairs[pair.Kind()]++
	if !pair.Is(lane.name) {
		lane.wrong++
	}
	lane.present++
	if c.r.over.Load() == 0 { // else it came too late to hear anything
		lane.most = max(lane.most, lane.present)
	}
	if l.witness != nil {
		lane.witnesses++
	} else {
		lane.headers++
	}
	g.l, g.sub = l, sub
	return nil
}

// dismiss lets a guest leave; nil is nobody.
func (c *crowd) dismiss(g *guest) {
	if g == nil {
		return
	}
	c.mu.Lock()
	_, in := c.in[g]
	delete(c.in, g)
	if in {
		c.back(g.seat)
	}
	c.mu.Unlock()
	if !in {
		return
	}
	c.returned(g.seat.index, time.Now()) // it leaves, media or not
	c.depart(g, leaving{})
}

func (c *crowd) depart(g *guest, how leaving) {
	lane := g.seat.path
	packet, frame, _ := g.l.leave(how)
	if packet > 0 {
		c.returned(g.seat.index, g.l.due.Add(packet))
	}
	lane.mu.Lock()
	lane.present--
	lane.joins.Left++
	lane.firsts(packet, frame)
	lane.mu.Unlock()
	c.wg.Go(func() { _ = g.sub.Close() }) // LiveKit notices a lost goodbye by itself
}

// guests are those who are in.
func (c *crowd) guests() []*guest {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*guest, 0, len(c.in))
	for g := range c.in {
		out = append(out, g)
	}
	return out
}

// speak lets everybody send what they have to say.
func (c *crowd) speak(now time.Time) {
	for _, g := range c.guests() {
		pkts, packet, frame := g.l.speak(now)
		if len(pkts) > 0 {
			_ = g.sub.WriteRTCP(pkts) // one that has failed ends by itself
		}
		if packet > 0 || frame > 0 {
			g.seat.path.mu.Lock()
			g.seat.path.firsts(packet, frame)
			g.seat.path.mu.Unlock()
		}
		if packet > 0 {
			c.returned(g.seat.index, g.l.due.Add(packet))
		}
	}
}

// await waits for joins that are under way.
func (c *crowd) await(most time.Duration) {
	const beat = 20 * time.Millisecond
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for range int(most / beat) {
		if _, pending := c.size(); pending == 0 {
			return
		}
		c.speak(<-ticker.C)
	}
}

// clear lets everybody leave; their counts are complete. The run's life has
// ended, so that nobody comes in any more. The media ended at end, in ns of Unix
// time.
func (c *crowd) clear(end int64) {
	c.joins.Wait()
	for _, g := range c.guests() {
		c.mu.Lock()
		_, in := c.in[g]
		delete(c.in, g)
		c.mu.Unlock()
		if in {
			g.l.heardOut(c.r.cast.lastMessages())
			c.depart(g, leaving{complete: true, end: end})
		}
	}
	c.wg.Wait()
	for _, seat := range slices.Collect(maps.Keys(c.away)) {
		c.returned(seat, time.Unix(0, end))
	}
}
