package flow

import (
	"slices"
	"time"
)

// A NACK asks for a packet that has been missing for nackAfter, up to nackTries
// times, and for at most nackPending packets at a time: a longer loss needs a key
// frame instead.
const (
	nackAfter   = int64(20 * time.Millisecond)
	nackTries   = 5
	nackPending = 256
	nackLongest = int64(400 * time.Millisecond)
)

// nack is a packet that a NACK may ask for.
type nack struct {
	seq   uint64
	due   int64
	tries int
}

// DueNACKs appends to out the sequence numbers to ask for at now, ns of Unix time:
// packets missing for at least 20 ms, each up to five times, at intervals that
// begin with the round-trip time and double up to 400 ms. It asks for no packet of
// a loss of more than 256. The caller passes the numbers that it sent to NACKed.
func (m *Meter) DueNACKs(now int64, out []uint16) []uint16 {
	keep := m.nacks[:0]
	for _, h := range m.nacks {
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
	m.nacks = keep
	return out
}

// NACKsPending reports whether a packet is missing that a NACK may ask for.
func (m *Meter) NACKsPending() bool { return len(m.nacks) > 0 }

// NACKed notes that a NACK asked for the packet: if it is received later, it
// counts as recovered, not as reordered.
func (m *Meter) NACKed(seq uint16) {
	m.c.NACKs++
	back := uint16(m.high) - seq
	if back < window {
		x := (m.high - uint64(back)) & mask
		m.nacked[x/64] |= 1 << (x % 64)
	}
}

// wasNACKed reports whether a NACK asked for packet x.
func (m *Meter) wasNACKed(x uint64) bool {
	return m.high-x < window && m.nacked[x&mask/64]&(1<<(x%64)) != 0
}

// queueNACKs queues the packets of a new loss.
func (m *Meter) queueNACKs(from, n uint64, at int64) {
	for x := from + n - min(n, window); x < from+n; x++ {
		m.ring[x&mask] = 0
		m.nacked[x&mask/64] &^= 1 << (x % 64)
	}
	if n > nackPending {
		m.nacks = m.nacks[:0]
		return
	}
	if over := len(m.nacks) + int(n) - nackPending; over > 0 {
		m.nacks = slices.Delete(m.nacks, 0, over)
	}
	for x := from; x < from+n; x++ {
		m.nacks = append(m.nacks, nack{seq: x, due: at + nackAfter})
	}
}

// dequeueNACK removes a packet that was received.
func (m *Meter) dequeueNACK(x uint64) {
	for i := range m.nacks {
		if m.nacks[i].seq == x {
			m.nacks = slices.Delete(m.nacks, i, i+1)
			return
		}
	}
}

// Report returns the stream's fields of a receiver report (RFC 3550 6.4.1,
// A.3): the fraction lost since the last call, in 1/256, the packets lost in
// all, at most 2^23-1, the extended highest sequence number, and the jitter in
// ticks.
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
