package flow

import (
	"slices"
	"time"
)

// What is asked for again: a hole of this age, so often, at most this many at
// a time; a longer gap needs a key frame instead.
const (
	nackAfter   = int64(20 * time.Millisecond)
	nackTries   = 5
	nackPending = 256
	nackLongest = int64(400 * time.Millisecond)
)

// hole is a packet to ask for.
type hole struct {
	seq   uint64
	due   int64
	tries int
}

// Missing appends to out the sequence numbers to ask for at now, ns of Unix
// time: holes of at least 20 ms, each up to five times in distances that begin
// with the round-trip time and double up to 400 ms. Of a gap of more than 256
// packets none is asked for. What was sent is to be given to NACKed.
func (m *Meter) Missing(now int64, out []uint16) []uint16 {
	keep := m.pending[:0]
	for _, h := range m.pending {
		if h.tries == nackTries || m.high-h.seq >= window {
			continue
		}
		if h.due <= now {
			out = append(out, uint16(h.seq))
			h.due = now + min(m.rtt<<h.tries, nackLongest)
			h.tries++
		}
		keep = append(keep, h)
	}
	m.pending = keep
	return out
}

// Holes says whether anything is missing that may be asked for again.
func (m *Meter) Holes() bool { return len(m.pending) > 0 }

// NACKed says that the packet was asked for: should it come, it is recovered,
// not reordered.
func (m *Meter) NACKed(seq uint16) {
	m.c.NACKs++
	back := uint16(m.high) - seq
	if back < window {
		x := (m.high - uint64(back)) & mask
		m.nacked[x/64] |= 1 << (x % 64)
	}
}

// wasNACKed tells of a late packet.
func (m *Meter) wasNACKed(x uint64) bool {
	return m.high-x < window && m.nacked[x&mask/64]&(1<<(x%64)) != 0
}

// await notes the holes of a new gap.
func (m *Meter) await(from, n uint64, at int64) {
	for x := from + n - min(n, window); x < from+n; x++ {
		m.ring[x&mask] = 0
		m.nacked[x&mask/64] &^= 1 << (x % 64)
	}
	if n > nackPending {
		m.pending = m.pending[:0]
		return
	}
	if over := len(m.pending) + int(n) - nackPending; over > 0 {
		m.pending = slices.Delete(m.pending, 0, over)
	}
	for x := from; x < from+n; x++ {
		m.pending = append(m.pending, hole{seq: x, due: at + nackAfter})
	}
}

// arrived takes a hole away.
func (m *Meter) arrived(x uint64) {
	for i := range m.pending {
		if m.pending[i].seq == x {
			m.pending = slices.Delete(m.pending, i, i+1)
			return
		}
	}
}

// Report is what a receiver report says of the stream (RFC 3550 6.4.1, A.3):
// the fraction lost since the last call, in 1/256, the packets lost in all, at
// most 2^23-1, the extended highest sequence number, and the jitter in ticks.
func (m *Meter) Report() (fractionLost uint8, totalLost, highest, jitter uint32) {
	expected, lost := m.c.Expected()-m.last.expected, m.c.Lost-m.last.lost
	m.last.expected, m.last.lost = m.c.Expected(), m.c.Lost
	if expected > 0 && lost > 0 {
		fractionLost = uint8(min(lost<<8/expected, 255))
	}
	if m.begun {
		highest = uint32(m.high - 1<<16)
	}
	return fractionLost, uint32(min(m.c.Lost, 1<<23-1)), highest, uint32(m.jitter)
}
