// Package jitter reorders the RTP packets of one track. A packet in sequence
// passes through without a copy. An early one is copied and waits until the
// missing ones have arrived (the sender resends on NACK) or until the oldest
// waiting packet has waited for the delay; the missing ones then count as lost.
// Packets are released by time, not by count, so that a track with few packets
// does not wait for more of them. The package has no goroutine and no clock: the
// caller passes arrival times and asks for the next deadline.
package jitter

import (
	"time"

	"github.com/pion/rtp"
)

// Bounds of a buffer.
const (
	// window is how many packets can wait: two seconds at 3 Mbit/s.
	window = 1 << 9
	// restart is the jump in sequence numbers from which on the sender is assumed
	// to have restarted: MAX_DROPOUT of RFC 3550 appendix A.1.
	restart = 3000
)

// DefaultDelay is how long a packet waits for earlier ones: longer than two
// round trips of a NACK on most paths, and short enough that a killed process
// loses little.
const DefaultDelay = 250 * time.Millisecond

// Packet is the next packet in sequence. Header and Payload are valid until the
// function that received it returns.
type Packet struct {
	Header  *rtp.Header
	Payload []byte
	// Arrival is when it arrived.
	Arrival time.Time
	// Lost is how many packets before this one are lost.
	Lost int
	// Restarted says that the sequence restarted before this packet; how many
	// packets were lost is not known.
	Restarted bool
}

// Stats counts packets since the buffer was made.
type Stats struct {
	Received  uint64 // all packets pushed
	Late      uint64 // arrived after they had been counted as lost
	Duplicate uint64
	Reordered uint64 // waited for earlier ones
	Lost      uint64 // did not arrive in time
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
	// Delay is how long a packet waits for earlier ones; 0 means DefaultDelay.
	Delay time.Duration
	// Hold is how long the first packets are held back, so that their order and
	// the least of their delays are known before any is released. 0 means not at
	// all.
	Hold time.Duration
}

// Buffer orders one track. It is not safe for concurrent use.
type Buffer struct {
	cfg     Config
	out     func(Packet)
	hold    time.Time // until when the first packets are held back
	slots   []slot    // made at the first packet out of order
	waiting int
	next    uint16 // the sequence number to release next
	started bool
	lost    int // since the last packet that was released
	reset   bool
	oldest  time.Time // arrival of the waiting packet to release first
	stats   Stats
}

// New returns an empty buffer that calls out for each packet, in sequence.
func New(cfg Config, out func(Packet)) *Buffer {
	if cfg.Delay <= 0 {
		cfg.Delay = DefaultDelay
	}
	return &Buffer{cfg: cfg, out: out}
}

// Holding reports whether the first packets are still held back.
func (b *Buffer) Holding() bool { return !b.started }

// Push takes a packet and releases those that are in sequence. It keeps neither
// h nor payload.
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
		b.stats.Late++ // or a duplicate of a released one; neither is needed
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

// Expire counts those packets as lost for which others have waited for the
// delay at now, and releases the others.
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

// Deadline is when Expire must be called; zero while no packet waits.
func (b *Buffer) Deadline() time.Time {
	switch {
	case b.waiting == 0:
		return time.Time{}
	case !b.started:
		return b.hold
	}
	return b.oldest.Add(b.cfg.Delay)
}

// Flush releases all waiting packets, at the end of a track.
func (b *Buffer) Flush() {
	b.started = true
	b.drain()
	for b.waiting > 0 {
		b.skip()
	}
}

// Stats returns the counts so far.
func (b *Buffer) Stats() Stats { return b.stats }

// first takes a packet while the first ones are held back. It returns false if
// the caller must handle the packet.
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
		b.next = h.SequenceNumber // the first to arrive was not the first in sequence
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
	// Only the fields that are used later: the extensions point into the caller's
	// memory.
	s.header = rtp.Header{Version: h.Version, Marker: h.Marker, PayloadType: h.PayloadType, SequenceNumber: h.SequenceNumber, Timestamp: h.Timestamp, SSRC: h.SSRC}
	s.payload = append(s.payload[:0], payload...)
	if b.started {
		b.stats.Reordered++
	}
	b.waiting++
	b.find()
}

// skip counts the packets before the next waiting one as lost, and releases
// that one and those that follow in sequence.
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

// find notes the arrival of the waiting packet to release first.
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
