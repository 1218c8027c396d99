package run

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/openova-io/bp-relay/loadtest/peer"
	"github.com/openova-io/bp-relay/loadtest/report"
)

// speaker is a publisher in its room.
type speaker struct {
	room, index int
	path        *lane

	mu  sync.Mutex
	pub *peer.Publisher
}

// cast are the publishers of all rooms.
type cast struct {
	r        *runner
	all      []*speaker
	wg       sync.WaitGroup
	mu       sync.Mutex
	messages int64
	bytes    int64
	ended    []*peer.Publisher // that fell out; what they sent counts
	last     map[uint32]uint32 // the number of each one's last message
	// acting ends, by rest, with the media: who speaks changes no more, and no
	// message follows, so that all of them can arrive.
	acting context.Context //nolint:containedctx // as said
	rest   context.CancelFunc
}

// startCast lets all publishers in: without them there is nothing to measure.
func startCast(ctx context.Context, r *runner) (*cast, error) {
	c := &cast{r: r, last: map[uint32]uint32{}}
	c.acting, c.rest = context.WithCancel(r.ctx)
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	rng := rand.New(rand.NewPCG(r.s.Seed, 0x63617374))
	if !r.part().Publishes {
		return c, nil // another worker of the same room does
	}
	for room := range r.rooms {
		for i := range r.s.Rooms.Publishers {
			s := &speaker{room: room, index: i, path: r.lane(r.s.PublishPath)}
			phase := time.Duration(rng.Int64N(int64(time.Second)))
			c.all = append(c.all, s)
			group.Go(func() error { return c.join(gctx, s, phase) })
		}
	}
	if err := group.Wait(); err != nil {
		return c, err
	}
	for _, s := range c.all {
		c.wg.Go(func() { c.attend(s) })
	}
	if sp := r.s.Speakers; sp != nil && r.audio != nil {
		c.wg.Go(func() { c.turns(c.acting, sp.Active, sp.Every) })
	}
	return c, nil
}

func (c *cast) join(ctx context.Context, s *speaker, phase time.Duration) error {
	due := time.Now()
	s.path.mu.Lock()
	s.path.joins.Attempted++
	s.path.mu.Unlock()
	within, cancel := context.WithTimeout(ctx, joinWithin)
	defer cancel()
	pub, err := c.publish(within, s, phase)
	s.path.mu.Lock()
	defer s.path.mu.Unlock()
	if err != nil {
		s.path.joins.Failed++
		return fmt.Errorf("a publisher on %s: %w", s.path.name, err)
	}
	s.path.joins.Succeeded++
	s.path.time.Record(time.Since(due))
	pair, err := pub.Pair()
	if err != nil {
		return errors.Join(err, pub.Close())
	}
	s.path.pairs[pair.Kind()]++
	if !pair.Is(s.path.name) {
		s.path.wrong++
	}
	s.path.publishers++
	s.path.mostPublishers = max(s.path.mostPublishers, s.path.publishers)
	s.mu.Lock()
	s.pub = pub
	s.mu.Unlock()
	return nil
}

func (c *cast) publish(ctx context.Context, s *speaker, phase time.Duration) (*peer.Publisher, error) {
	r := c.r
	cfg, err := r.entry(ctx, s.room, publisherName(s.index), s.path.name, true)
	if err != nil {
		return nil, err
	}
	pub, err := peer.Publish(ctx, cfg, peer.PublisherConfig{
		Video: r.video, Audio: r.audio, Data: r.s.Data != nil, Pacer: r.pacers[(s.room+s.index)%len(r.pacers)], Phase: phase,
	})
	if err != nil {
		return nil, err
	}
	if d := r.s.Data; d != nil {
		id := uint32(s.room)<<16 | uint32(s.index)
		first := uint32(0)
		c.mu.Lock()
		if last, again := c.last[id]; again { // it fell out: its numbers go on
			first = last + 1
		}
		c.mu.Unlock()
		c.wg.Go(func() {
			sendMessages(c.acting, pub, d, id, first, func(seq uint32, bytes int, err error) {
				if err != nil {
					r.fault(err)
					return
				}
				c.mu.Lock()
				c.messages, c.bytes = c.messages+1, c.bytes+int64(bytes)
				c.last[id] = seq
				c.mu.Unlock()
			})
		})
	}
	return pub, nil
}

// attend lets a publisher that fell out come again.
func (c *cast) attend(s *speaker) {
	for {
		s.mu.Lock()
		pub := s.pub
		s.mu.Unlock()
		<-pub.Done()
		if c.r.ending() {
			return
		}
		c.r.fault(fmt.Errorf("a publisher fell out: %w", pub.Err()))
		_ = pub.Close() // it has failed already
		c.mu.Lock()
		c.ended = append(c.ended, pub)
		c.mu.Unlock()
		s.path.mu.Lock()
		s.path.joins.Reconnects++
		s.path.publishers--
		s.path.mu.Unlock()
		for {
			err := c.join(c.r.ctx, s, 0)
			if err == nil {
				if c.r.ctx.Err() != nil { // close may not have seen it
					_ = s.now().Close()
				}
				break
			}
			c.r.fault(err)
			select {
			case <-time.After(time.Second):
			case <-c.r.ctx.Done():
				return
			}
		}
	}
}

// missing says which publishers are not there now, in a sentence; nil when all
// are.
func (c *cast) missing() []string {
	gone := 0
	for _, s := range c.all {
		if p := s.now(); p == nil || p.Err() != nil {
			gone++
		}
	}
	if gone == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%d of %d publishers had fallen out and were not back at the end; look at the report's errors, and whether the SFU still runs", gone, len(c.all))}
}

// turns lets so many of each room's publishers speak at a time.
func (c *cast) turns(ctx context.Context, active int, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for turn := 0; ; turn++ {
		for _, s := range c.all {
			n := c.r.s.Rooms.Publishers
			silent := (s.index-turn*active%n+n)%n >= active
			if pub := s.now(); pub != nil && pub.Err() == nil {
				if err := pub.Mute(false, silent); err != nil {
					c.r.fault(err)
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (s *speaker) now() *peer.Publisher {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pub
}

// publishers are all that there were.
func (c *cast) publishers() []*peer.Publisher {
	c.mu.Lock()
	out := append([]*peer.Publisher(nil), c.ended...)
	c.mu.Unlock()
	for _, s := range c.all {
		if p := s.now(); p != nil {
			out = append(out, p)
		}
	}
	return out
}

// numbers is how many packets each track's layers of a room have sent by now.
func (c *cast) numbers(room int) func(track string, layer uint8) (uint64, bool) {
	all := map[string]map[uint8]uint64{}
	c.mu.Lock()
	pubs := slices.Clone(c.ended) // of any room
	c.mu.Unlock()
	for _, s := range c.all {
		if p := s.now(); p != nil && s.room == room {
			pubs = append(pubs, p)
		}
	}
	for _, p := range pubs {
		maps.Copy(all, p.Numbers())
	}
	return func(track string, layer uint8) (uint64, bool) {
		n, ok := all[track][layer]
		return n, ok
	}
}

// sent sums up what publishers sent.
func (c *cast) sent() report.Sent {
	var out report.Sent
	for _, p := range c.publishers() {
		for _, l := range p.Layers() {
			out.Packets += l.Sent.Packets
			out.Bytes += l.Sent.Bytes
			out.PayloadBytes += l.Sent.PayloadBytes
			out.Frames += l.Sent.Frames
			out.Retransmitted += l.Sent.Retransmitted
		}
		nacks, plis := p.Asked()
		out.NACKs += nacks
		out.PLIs += plis
		if err := p.SendErr(); err != nil {
			c.r.fault(fmt.Errorf("send: %w", err))
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	out.Messages, out.MessageBytes = c.messages, c.bytes
	return out
}

// settleWithin bounds the wait for LiveKit's last reports: one comes a second
// after the one before, and another one when packets were sent again meanwhile.
const settleWithin = 4 * time.Second

// stop ends the media, and waits until LiveKit has reported on all of it or
// does not any more. Subscribers go on meanwhile, by each.
func (c *cast) stop(each func(now time.Time)) {
	c.rest()
	for _, p := range c.publishers() {
		p.Stop()
	}
	const beat, nudge = 50 * time.Millisecond, 5
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for n := range int(settleWithin / beat) {
		settled := true
		for _, p := range c.publishers() {
			if p.Err() == nil && !p.Settled() {
				settled = false
				if n%nudge == nudge-1 {
					p.Nudge()
				}
			}
		}
		if settled {
			return
		}
		each(<-ticker.C)
	}
}

// lastMessages are the numbers of the publishers' last messages.
func (c *cast) lastMessages() map[uint32]uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.last)
}

// close ends all.
func (c *cast) close() {
	var wg sync.WaitGroup
	for _, s := range c.all {
		if p := s.now(); p != nil {
			wg.Go(func() { _ = p.Close() })
		}
	}
	wg.Wait()
	c.rest()
	c.wg.Wait()
}
