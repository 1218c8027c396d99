// Package jitter puts the RTP packets of one track back into order. A packet
// that comes in its turn passes straight through without a copy; one that
// comes early waits, copied, until the missing ones are there (the sender
// resends on NACK) or until the oldest waiting one has waited long enough:
// then the missing ones are stated as lost. Release is by time, not by
// count, so that a track with few packets does not wait for more of them.
// Nothing here has a goroutine or a clock: the caller gives arrival times and
// asks when to come back.
package jitter

import (
	"time"

	"github.com/pion/rtp"
)

// Bounds of a buffer.
const (
	// window is how many packets wait at most: at 3 Mbit/s, two seconds.
	window = 1 << 9
	// restart is the jump in sequence numbers after which the sender is taken
	// to have begun anew (RFC 3550 appendix A.1 calls it MAX_DROPOUT).
	restart = 3000
)

// DefaultDelay is how long a packet waits for those before it. It is more
// than two round trips of a NACK on most paths, and little enough that a
// killed process loses little.
const DefaultDelay = 250 * time.Millisecond

// Packet is one packet in its turn. It and its payload are valid until the
// function that it was given to returns.
type Packet struct {
	Header  *rtp.Header
	Payload []byte
	// Arrival is when it came in.
	Arrival time.Time
	// Lost is how many packets before this one never came.
	Lost int
	// Restarted: the sequence began anew before this packet; how many were
	// lost is not known.
	Restarted bool
}

// Stats counts what went through a buffer since it was made.
type Stats struct {
	Received  uint64 // packets pushed, those below included
	Late      uint64 // came after they had been stated as lost
	Duplicate uint64
	Reordered uint64 // waited for others
	Lost      uint64 // never came
	Restarts  uint64
}

type slot struct {
	full    bool
	seq     uint16
	header  rtp.Header
	payload []byte // its own memory, reused
	arrival time.Time
}

// Config says how long packets wait.
type Config struct {
	// Delay is how long a packet waits for those before it; 0 means
	// DefaultDelay.
	Delay time.Duration
	// Hold keeps the first packets back for that long, so that their order and
	// their true time of arrival are known before any of them goes out.
	Hold time.Duration
}

// Buffer orders one track. It is not safe for concurrent use.
type Buffer struct {
	cfg     Config
	out     func(Packet)
	hold    time.Time // until when the first packets are held back
	slots   []slot    // made at the first packet out of order
	waiting int
	next    uint16 // the sequence number whose turn it is
	started bool
	lost    int // since the last packet that went out
	reset   bool
	oldest  time.Time // arrival of the waiting packet that is nearest to its turn
	stats   Stats
}

// New returns an empty buffer that calls out for each packet in its turn.
func New(cfg Config, out func(Packet)) *Buffer {
	if cfg.Delay <= 0 {
		cfg.Delay = DefaultDelay
	}
	return &Buffer{cfg: cfg, out: out}
}

// Holding says whether the first packets are being held back.
func (b *Buffer) Holding() bool { return !b.started }

// Push takes a packet that came in at arrival and lets out those whose turn
// it is. It keeps neither h nor payload.
func (b *Buffer) Push(h *rtp.Header, payload []byte, arrival time.Time) {
	b.stats.Received++
	if !b.started && b.first(h, payload, arrival) {
		return
	}
	switch d := int16(h.SequenceNumber - b.next); {
	case d == 0:
		b.emit(h, payload, arrival)
		b.drain()
	case d < 0 && d > -restart:
		b.stats.Late++ // or a duplicate of one that went out: both are not needed
	case d < 0 || d > restart:
		b.Flush()
		b.stats.Restarts++
		b.reset, b.lost, b.next = true, 0, h.SequenceNumber
		b.emit(h, payload, arrival)
	default:
		for int(int16(h.SequenceNumber-b.next)) >= window {
			b.skip()
		}
		if h.SequenceNumber == b.next {
			b.emit(h, payload, arrival)
			b.drain()
			return
		}
		b.keep(h, payload, arrival)
	}
	b.Expire(arrival)
}

// Expire gives up on packets for which others have waited longer than the
// delay, as of now, and lets those out.
func (b *Buffer) Expire(now time.Time) {
	if !b.started {
		if b.hold.IsZero() || now.Before(b.hold) {
			return
		}
		b.started = true
		b.drain()
	}
	for b.waiting > 0 && now.Sub(b.oldest) >= b.cfg.Delay {
		b.skip()
	}
}

// Deadline is when Expire has work to do; the zero time while nothing waits.
func (b *Buffer) Deadline() time.Time {
	switch {
	case b.waiting == 0:
		return time.Time{}
	case !b.started:
		return b.hold
	}
	return b.oldest.Add(b.cfg.Delay)
}

// Flush lets everything out that waits: at the end of a track.
func (b *Buffer) Flush() {
	b.started = true
	b.drain()
	for b.waiting > 0 {
		b.skip()
	}
}

// Stats returns the counts so far.
func (b *Buffer) Stats() Stats { return b.stats }

// first takes a packet while the first ones are held back, and says whether
// it has dealt with it.
func (b *Buffer) first(h *rtp.Header, payload []byte, arrival time.Time) bool {
	if b.hold.IsZero() {
		b.hold, b.next = arrival.Add(b.cfg.Hold), h.SequenceNumber
	}
	ahead := int(int16(h.SequenceNumber - b.next))
	if b.waiting == 0 {
		ahead = 0
	}
	if !arrival.Before(b.hold) || ahead >= window || ahead <= -window/2 || (ahead < 0 && b.slots[h.SequenceNumber%window].full) {
		b.started = true
		b.drain()
		return false
	}
	if ahead < 0 {
		b.next = h.SequenceNumber // the one that came first was not the first
	}
	b.keep(h, payload, arrival)
	return true
}

func (b *Buffer) emit(h *rtp.Header, payload []byte, arrival time.Time) {
	b.out(Packet{Header: h, Payload: payload, Arrival: arrival, Lost: b.lost, Restarted: b.reset})
	b.lost, b.reset = 0, false
	b.next++
}

func (b *Buffer) keep(h *rtp.Header, payload []byte, arrival time.Time) {
	if b.slots == nil {
		b.slots = make([]slot, window)
	}
	s := &b.slots[h.SequenceNumber%window]
	if s.full {
		b.stats.Duplicate++
		return
	}
	s.full, s.seq, s.arrival = true, h.SequenceNumber, arrival
	// Of the header, what is used later: its extensions point into the
	// caller's memory.
	s.header = rtp.Header{Version: h.Version, Marker: h.Marker, PayloadType: h.PayloadType, SequenceNumber: h.SequenceNumber, Timestamp: h.Timestamp, SSRC: h.SSRC}
	s.payload = append(s.payload[:0], payload...)
	if b.started {
		b.stats.Reordered++
	}
	b.waiting++
	b.find()
}

// skip gives up on the packets missing before the next waiting one and lets
// that one out, with all that follow without a hole.
func (b *Buffer) skip() {
	if b.waiting == 0 {
		b.next++
		b.lost++
		b.stats.Lost++
		return
	}
	for !b.slots[b.next%window].full {
		b.next++
		b.lost++
		b.stats.Lost++
	}
	b.drain()
}

func (b *Buffer) drain() {
	for b.waiting > 0 {
		s := &b.slots[b.next%window]
		if !s.full {
			break
		}
		s.full = false
		b.waiting--
		b.emit(&s.header, s.payload, s.arrival)
	}
	b.find()
}

// find remembers when the packet came in that is next to go.
func (b *Buffer) find() {
	if b.waiting == 0 {
		b.oldest = time.Time{}
		return
	}
	for i := b.next; ; i++ {
		if s := &b.slots[i%window]; s.full {
			b.oldest = s.arrival
			return
		}
	}
}
