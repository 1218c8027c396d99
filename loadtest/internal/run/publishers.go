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

	"github.com/openova-io/bp-relay/loadtest/internal/participant"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// publisher is a virtual user that publishes in a room.
type publisher struct {
	room, index int
	pop         *population

	mu        sync.Mutex
	transport *participant.Publisher
}

// publishers holds the publishers of all rooms.
type publishers struct {
	r            *runner
	all          []*publisher
	wg           sync.WaitGroup
	mu           sync.Mutex
	messages     int64
	bytes        int64
	disconnected []*participant.Publisher // transports that failed; what they sent counts
	last         map[uint32]uint32        // the number of each one's last message
	// sending ends with the media, by stopSending: the speakers no longer change
	// and no message is sent, so that all messages can still arrive.
	sending     context.Context //nolint:containedctx // see above
	stopSending context.CancelFunc
}

// joinPublishers joins all publishers. If one fails, so does the run.
func joinPublishers(ctx context.Context, r *runner) (*publishers, error) {
	ps := &publishers{r: r, last: map[uint32]uint32{}}
	ps.sending, ps.stopSending = context.WithCancel(r.ctx)
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	rng := rand.New(rand.NewPCG(r.s.Seed, 0x63617374))
	if !r.part().Publishes {
		return ps, nil // another worker publishes in the same room
	}
	for room := range r.rooms {
		for i := range r.s.Rooms.Publishers {
			pub := &publisher{room: room, index: i, pop: r.population(r.s.PublishPath)}
			phase := time.Duration(rng.Int64N(int64(time.Second)))
			ps.all = append(ps.all, pub)
			group.Go(func() error { return ps.join(gctx, pub, phase) })
		}
	}
	if err := group.Wait(); err != nil {
		return ps, err
	}
	for _, pub := range ps.all {
		ps.wg.Go(func() { ps.rejoin(pub) })
	}
	if sp := r.s.Speakers; sp != nil && r.audio != nil {
		ps.wg.Go(func() { ps.rotateSpeakers(ps.sending, sp.Active, sp.Every) })
	}
	return ps, nil
}

// join joins a publisher whose media starts at phase within a second.
func (ps *publishers) join(ctx context.Context, pub *publisher, phase time.Duration) error {
	due := time.Now()
	pub.pop.mu.Lock()
	pub.pop.joins.Attempted++
	pub.pop.mu.Unlock()
	within, cancel := context.WithTimeout(ctx, joinWithin)
	defer cancel()
	transport, err := ps.publish(within, pub, phase)
	pub.pop.mu.Lock()
	defer pub.pop.mu.Unlock()
	if err != nil {
		pub.pop.joins.Failed++
		return fmt.Errorf("a publisher on %s: %w", pub.pop.name, err)
	}
	pub.pop.joins.Succeeded++
	pub.pop.joinTime.Record(time.Since(due))
	pair, err := transport.Pair()
	if err != nil {
		return errors.Join(err, transport.Close())
	}
	pub.pop.pairs[pair.Kind()]++
	if !pair.Is(pub.pop.name) {
		pub.pop.wrongPath++
	}
	pub.pop.currentPublishers++
	pub.pop.peakPublishers = max(pub.pop.peakPublishers, pub.pop.currentPublishers)
	pub.mu.Lock()
	pub.transport = transport
	pub.mu.Unlock()
	return nil
}

// publish joins the room and starts the media and data messages.
func (ps *publishers) publish(ctx context.Context, pub *publisher, phase time.Duration) (*participant.Publisher, error) {
	r := ps.r
	identity := publisherName(pub.index)
	cfg, err := r.joinConfig(ctx, pub.room, identity, pub.pop.name, true)
	if err != nil {
		return nil, err
	}
	transport, err := participant.Publish(ctx, cfg, participant.PublisherConfig{
		Video: r.video, Audio: r.audio, Data: r.s.Data != nil, Pacer: r.pacers[(pub.room+pub.index)%len(r.pacers)], Phase: phase,
		Impair: r.impairment(pub.room, identity, pub.pop.name, true),
	})
	if err != nil {
		return nil, err
	}
	if d := r.s.Data; d != nil {
		id := uint32(pub.room)<<16 | uint32(pub.index)
		first := uint32(0)
		ps.mu.Lock()
		if last, again := ps.last[id]; again { // it rejoins: its numbers continue
			first = last + 1
		}
		ps.mu.Unlock()
		ps.wg.Go(func() {
			sendMessages(ps.sending, transport, d, id, first, func(seq uint32, bytes int, err error) {
				if err != nil {
					r.fault(err)
					return
				}
				ps.mu.Lock()
				ps.messages, ps.bytes = ps.messages+1, ps.bytes+int64(bytes)
				ps.last[id] = seq
				ps.mu.Unlock()
			})
		})
	}
	return transport, nil
}

// rejoin joins a publisher again whenever its transport fails, until the run ends.
func (ps *publishers) rejoin(pub *publisher) {
	for {
		transport := pub.current()
		<-transport.Done()
		if ps.r.ending() {
			return
		}
		ps.r.fault(fmt.Errorf("a publisher was disconnected: %w", transport.Err()))
		_ = transport.Close() // it has failed already
		ps.mu.Lock()
		ps.disconnected = append(ps.disconnected, transport)
		ps.mu.Unlock()
		pub.pop.mu.Lock()
		pub.pop.joins.Reconnects++
		pub.pop.currentPublishers--
		pub.pop.mu.Unlock()
		for {
			err := ps.join(ps.r.ctx, pub, 0)
			if err == nil {
				if ps.r.ctx.Err() != nil { // leave may not have closed it
					_ = pub.current().Close()
				}
				break
			}
			ps.r.fault(err)
			select {
			case <-time.After(time.Second):
			case <-ps.r.ctx.Done():
				return
			}
		}
	}
}

// absent returns a sentence about the publishers that are not connected now, or
// nil if all are.
func (ps *publishers) absent() []string {
	gone := 0
	for _, pub := range ps.all {
		if p := pub.current(); p == nil || p.Err() != nil {
			gone++
		}
	}
	if gone == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%d of %d publishers were disconnected and had not rejoined at the end; check the report's errors, and that the SFU still runs", gone, len(ps.all))}
}

// rotateSpeakers unmutes active publishers of each room at a time, others in turn,
// and mutes the rest, until ctx ends.
func (ps *publishers) rotateSpeakers(ctx context.Context, active int, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for turn := 0; ; turn++ {
		for _, pub := range ps.all {
			n := ps.r.s.Rooms.Publishers
			silent := (pub.index-turn*active%n+n)%n >= active
			if t := pub.current(); t != nil && t.Err() == nil {
				if err := t.Mute(false, silent); err != nil {
					ps.r.fault(err)
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

// current returns the publisher's newest transport, nil before the first.
func (pub *publisher) current() *participant.Publisher {
	pub.mu.Lock()
	defer pub.mu.Unlock()
	return pub.transport
}

// transports returns all transports, including those that failed.
func (ps *publishers) transports() []*participant.Publisher {
	ps.mu.Lock()
	out := append([]*participant.Publisher(nil), ps.disconnected...)
	ps.mu.Unlock()
	for _, pub := range ps.all {
		if p := pub.current(); p != nil {
			out = append(out, p)
		}
	}
	return out
}

// sentNumbers returns how many packets each layer of a room's tracks has sent so
// far.
func (ps *publishers) sentNumbers(room int) func(track string, layer uint8) (uint64, bool) {
	all := map[string]map[uint8]uint64{}
	ps.mu.Lock()
	pubs := slices.Clone(ps.disconnected) // of all rooms
	ps.mu.Unlock()
	for _, pub := range ps.all {
		if p := pub.current(); p != nil && pub.room == room {
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

// totals sums up what publishers sent.
func (ps *publishers) totals() result.Sent {
	var out result.Sent
	for _, p := range ps.transports() {
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
			ps.r.fault(fmt.Errorf("send: %w", err))
		}
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	out.Messages, out.MessageBytes = ps.messages, ps.bytes
	return out
}

// settleWithin bounds the wait for LiveKit's last receiver reports: it sends one
// a second, and one more if packets were retransmitted in the meantime.
const settleWithin = 4 * time.Second

// stopMedia ends the media and waits until LiveKit has reported on all of it, at
// most settleWithin. It calls each meanwhile, which keeps subscribers running.
func (ps *publishers) stopMedia(each func(now time.Time)) {
	ps.stopSending()
	for _, p := range ps.transports() {
		p.Stop()
	}
	const beat, nudge = 50 * time.Millisecond, 5
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for n := range int(settleWithin / beat) {
		settled := true
		for _, p := range ps.transports() {
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

// lastMessages returns the number of each publisher's last message.
func (ps *publishers) lastMessages() map[uint32]uint32 {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return maps.Clone(ps.last)
}

// leave closes all publishers and waits for their goroutines.
func (ps *publishers) leave() {
	var wg sync.WaitGroup
	for _, pub := range ps.all {
		if p := pub.current(); p != nil {
			wg.Go(func() { _ = p.Close() })
		}
	}
	wg.Wait()
	ps.stopSending()
	ps.wg.Wait()
}
