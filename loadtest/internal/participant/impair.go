package participant

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/openova-io/bp-relay/services/rtc/socket"
)

// Impairment drops and delays a participant's media inside this process: a known fault
// where the kernel cannot make one (tc netem). A publisher's is
// [PublisherConfig].Impair and acts on what is sent; a subscriber's is its Sink. It
// neither drops nor delays ICE, DTLS and RTCP, and only delays padding packets (RFC 3550
// section 5.1: P). Set the fields before the first packet.
type Impairment struct {
	// Loss is the share of packets to drop, 0 to 1.
	Loss float64
	// Delay delays each packet; the order stays.
	Delay time.Duration
	// OnPacket, if not nil, is called with each RTP packet, without TURN's framing, and
	// whether it is dropped. It is called under a lock and must neither block nor keep
	// the packet.
	OnPacket func(packet []byte, dropped bool)

	mu      sync.Mutex
	rng     *rand.Rand
	dropped int64

	late       sync.WaitGroup
	queue      sync.Mutex
	held       []func()   // delayed deliveries, oldest first; queue is held
	delivering sync.Mutex // held during a delivery, so that they stay in order
}

// NewImpairment returns an impairment whose random choices follow from the seed.
func NewImpairment(seed uint64) *Impairment {
	return &Impairment{rng: rand.New(rand.NewPCG(seed, seed^0x9e3779b97f4a7c15))}
}

// Dropped returns how many packets were dropped.
func (im *Impairment) Dropped() int64 {
	im.mu.Lock()
	defer im.mu.Unlock()
	return im.dropped
}

// Wait returns when no packet is being delayed.
func (im *Impairment) Wait() { im.late.Wait() }

// drop decides about a packet and counts it; im.mu is held.
func (im *Impairment) drop(rtp []byte) bool {
	if len(rtp) == 0 || rtp[0]&0x20 != 0 { // RFC 3550 section 5.1: P
		return false
	}
	gone := im.Loss > 0 && im.rng.Float64() < im.Loss
	if gone {
		im.dropped++
	}
	if im.OnPacket != nil {
		im.OnPacket(rtp, gone)
	}
	return gone
}

// hold calls deliver after the delay. All delays are equal, so each timer makes the
// oldest delivery and the order stays.
func (im *Impairment) hold(deliver func()) {
	im.late.Add(1)
	im.queue.Lock()
	im.held = append(im.held, deliver)
	im.queue.Unlock()
	time.AfterFunc(im.Delay, func() {
		defer im.late.Done()
		im.delivering.Lock()
		defer im.delivering.Unlock()
		im.queue.Lock()
		oldest := im.held[0]
		im.held = im.held[1:]
		im.queue.Unlock()
		oldest()
	})
}

// send drops and delays a burst's packets, and empties it. Dropped ones count as sent:
// they are lost on the way.
func (im *Impairment) send(b *socket.Burst, d *socket.Dest) (failed []int, err error) {
	kept := make([]int, 0, b.Len())
	im.mu.Lock()
	b.Filter(func(i int, rtp []byte) bool {
		if im.drop(rtp) {
			return false
		}
		kept = append(kept, i)
		return true
	})
	im.mu.Unlock()
	if len(kept) == 0 {
		b.Reset()
		return nil, nil
	}
	if im.Delay > 0 {
		held := b.Clone()
		b.Reset()
		im.hold(func() { _, _ = held.Send(d) }) // the reactor counts failures
		return nil, nil
	}
	failed, err = b.Send(d)
	for i, k := range failed { // their indices before the loss
		failed[i] = kept[k]
	}
	return failed, err
}

// Sink returns a sink that drops and delays packets on their way to another.
func (im *Impairment) Sink(to socket.Sink) socket.Sink { return impairedSink{im, to} }

type impairedSink struct {
	im *Impairment
	to socket.Sink
}

// RTP implements socket.Sink.
func (s impairedSink) RTP(packets []socket.Packet) {
	s.im.mu.Lock()
	keep := packets[:0:0]
	for _, p := range packets {
		if !s.im.drop(p.Bytes) {
			keep = append(keep, p)
		}
	}
	s.im.mu.Unlock()
	if len(keep) == 0 {
		return
	}
	if s.im.Delay == 0 {
		s.to.RTP(keep)
		return
	}
	for i, p := range keep {
		keep[i].Bytes = slices.Clone(p.Bytes)
		keep[i].At += int64(s.im.Delay)
	}
	s.im.hold(func() { s.to.RTP(keep) })
}
