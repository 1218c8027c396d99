package wire

import (
	"math/rand/v2"
	"sync"
	"time"
)

// Impairment drops and delays a participant's media inside of this process, so
// that a known fault is there where the kernel offers none (tc netem). ICE, DTLS
// and RTCP are left alone. Both directions are counted for themselves.
type Impairment struct {
	// SendLoss and ReceiveLoss are shares, 0 to 1.
	SendLoss, ReceiveLoss float64
	// SendDelay and ReceiveDelay hold each packet back.
	SendDelay, ReceiveDelay time.Duration

	mu      sync.Mutex
	rng     *rand.Rand
	dropped [2]int64
	held    []func() // in the order in which they are let go
	late    sync.WaitGroup
	letting sync.Mutex
}

// NewImpairment makes one whose choices follow from the seed.
func NewImpairment(seed uint64) *Impairment {
	return &Impairment{rng: rand.New(rand.NewPCG(seed, seed^0x9e3779b97f4a7c15))}
}

// Dropped is how many packets were dropped on the way out and on the way in.
func (im *Impairment) Dropped() (send, receive int64) {
	im.mu.Lock()
	defer im.mu.Unlock()
	return im.dropped[0], im.dropped[1]
}

// Wait waits for packets that are held back.
func (im *Impairment) Wait() { im.late.Wait() }

func (im *Impairment) drop(share float64, way int) bool {
	if share > 0 && im.rng.Float64() < share {
		im.dropped[way]++
		return true
	}
	return false
}

// hold lets go after a delay. Delays are equal, so order is kept: each timer
// lets go of the oldest.
func (im *Impairment) hold(d time.Duration, letGo func()) {
	im.late.Add(1)
	im.mu.Lock()
	im.held = append(im.held, letGo)
	im.mu.Unlock()
	time.AfterFunc(d, func() {
		defer im.late.Done()
		im.letting.Lock()
		defer im.letting.Unlock()
		im.mu.Lock()
		next := im.held[0]
		im.held = im.held[1:]
		im.mu.Unlock()
		next()
	})
}

// send drops and delays a burst's packets. What is dropped counts as sent: it
// is lost on the way.
func (im *Impairment) send(b *Burst, d *Dest) ([]int, error) {
	im.mu.Lock()
	var out []byte
	var sizes []int
	at := 0
	for _, n := range b.sizes {
		if !im.drop(im.SendLoss, 0) {
			out = append(out, b.buf[at:at+n]...)
			sizes = append(sizes, n)
		}
		at += n
	}
	im.mu.Unlock()
	if len(sizes) == 0 {
		b.Reset()
		return nil, nil
	}
	if im.SendDelay == 0 {
		b.buf, b.sizes = append(b.buf[:0], out...), append(b.sizes[:0], sizes...)
		return b.now(d)
	}
	b.Reset()
	im.hold(im.SendDelay, func() {
		held := &Burst{buf: out, sizes: sizes}
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
		if !im.drop(im.ReceiveLoss, 1) {
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
	im.hold(im.ReceiveDelay, func() { sink.RTP(keep) })
}
