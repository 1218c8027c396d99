package wire

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Impairment drops and delays a participant's media inside of this process, so
// that a known fault is there where the kernel offers none (tc netem). ICE, DTLS
// and RTCP are left alone, and padding is only delayed. Both directions are counted for themselves.
type Impairment struct {
	// SendLoss and ReceiveLoss are shares, 0 to 1.
	SendLoss, ReceiveLoss float64
	// SendDelay and ReceiveDelay hold each packet back.
	SendDelay, ReceiveDelay time.Duration
	// Told hears of each RTP packet, without TURN's framing, whether it goes out
	// and whether it is dropped; nil: nobody. It is called under a lock and must
	// not keep the packet.
	Told func(out bool, packet []byte, dropped bool)

	mu      sync.Mutex
	rng     *rand.Rand
	dropped [2]int64
	late    sync.WaitGroup
	held    [2]line
}

// The two directions.
const (
	outward = iota
	inward
)

// line is what one direction holds back, in the order in which it is let go.
type line struct {
	mu      sync.Mutex
	held    []func()
	letting sync.Mutex // one at a time, in order
}

// NewImpairment makes one whose choices follow from the seed.
func NewImpairment(seed uint64) *Impairment {
	return &Impairment{rng: rand.New(rand.NewPCG(seed, seed^0x9e3779b97f4a7c15))}
}

// Dropped is how many packets were dropped on the way out and on the way in.
func (im *Impairment) Dropped() (send, receive int64) {
	im.mu.Lock()
	defer im.mu.Unlock()
	return im.dropped[outward], im.dropped[inward]
}

// Wait waits for packets that are held back.
func (im *Impairment) Wait() { im.late.Wait() }

func (im *Impairment) drop(share float64, way int, p []byte) bool {
	rtp, ok := media(p)
	if !ok || rtp[0]&0x20 != 0 { // RFC 3550 section 5.1: P
		return false
	}
	gone := share > 0 && im.rng.Float64() < share
	if gone {
		im.dropped[way]++
	}
	if im.Told != nil {
		im.Told(way == outward, rtp, gone)
	}
	return gone
}

// hold lets go after a delay. Those of one direction are equal, so its order is
// kept: each timer lets go of the oldest.
func (im *Impairment) hold(way int, d time.Duration, letGo func()) {
	im.late.Add(1)
	l := &im.held[way]
	l.mu.Lock()
	l.held = append(l.held, letGo)
	l.mu.Unlock()
	time.AfterFunc(d, func() {
		defer im.late.Done()
		l.letting.Lock()
		defer l.letting.Unlock()
		l.mu.Lock()
		next := l.held[0]
		l.held = l.held[1:]
		l.mu.Unlock()
		next()
	})
}

// send drops and delays a burst's packets. What is dropped counts as sent: it
// is lost on the way.
func (im *Impairment) send(b *Burst, d *Dest) ([]int, error) {
	im.mu.Lock()
	b.kept = b.kept[:0]
	from, to := 0, 0
	for i, n := range b.sizes {
		if !im.drop(im.SendLoss, outward, b.buf[from:from+n]) {
			copy(b.buf[to:], b.buf[from:from+n])
			b.sizes[len(b.kept)] = n
			b.kept = append(b.kept, i)
			to += n
		}
		from += n
	}
	im.mu.Unlock()
	b.buf, b.sizes = b.buf[:to], b.sizes[:len(b.kept)]
	if len(b.sizes) == 0 {
		b.Reset()
		return nil, nil
	}
	if im.SendDelay == 0 {
		failed, err := b.now(d)
		for i, k := range failed { // by their places before the loss
			failed[i] = b.kept[k]
		}
		return failed, err
	}
	held := &Burst{buf: slices.Clone(b.buf), sizes: slices.Clone(b.sizes)}
	b.Reset()
	im.hold(outward, im.SendDelay, func() {
		_, _ = held.now(d) // its failures are in the reactor's counters
	})
	return nil, nil
}

// receive drops and delays packets on their way to the sink.
func (im *Impairment) receive(packets []Packet, sink Sink) {
	if sink == nil {
		return
	}
	im.mu.Lock()
	keep := packets[:0:0]
	for _, p := range packets {
		if !im.drop(im.ReceiveLoss, inward, p.Bytes) {
			keep = append(keep, p)
		}
	}
	im.mu.Unlock()
	if len(keep) == 0 {
		return
	}
	if im.ReceiveDelay == 0 {
		sink.RTP(keep)
		return
	}
	for i, p := range keep {
		keep[i].Bytes = append([]byte(nil), p.Bytes...)
		keep[i].At += int64(im.ReceiveDelay)
	}
	im.hold(inward, im.ReceiveDelay, func() { sink.RTP(keep) })
}
