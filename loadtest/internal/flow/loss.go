package flow

import (
	"slices"
	"sort"
)

// loss is n consecutive sequence numbers from seq that were not received. It
// lies between the runs prev and next, which are none if other packets lie
// between it and the run. Within a run (prev == next) its packets are among the
// run's from lo up to hi: all of them if those are n; if they are fewer,
// padding that the SFU sent was lost too.
type loss struct {
	seq        uint64
	n          int64
	prev, next int
	lo, hi     int64
}

// addLoss notes that the n packets from number from on were not received before
// a higher one was.
func (m *Meter) addLoss(from, n uint64, at int64) {
	if n == 0 {
		return
	}
	m.c.Lost += int64(n)
	m.queueNACKs(from, n, at)
	m.losses = append(m.losses, loss{seq: from, n: int64(n), prev: none, next: none})
}

// assignLosses assigns the losses since the newest stamped packet, which lie
// before a packet of the run next: to its packets from lo up to hi if next is the
// current run, or else to the border between the current run and next.
func (t *mapping) assignLosses(m *Meter, next int, lo, hi int64) {
	losses := m.losses[t.firstOpen:]
	var lost int64
	for _, l := range losses {
		lost += l.n
	}
	at := lo
	for i := range losses {
		l := &losses[i]
		switch {
		case next != none && next == t.run:
			l.prev, l.next, l.lo, l.hi = next, next, lo, hi
			if lost == hi-lo { // all of these packets, in order
				l.lo, l.hi = at, at+l.n
				at += l.n
			}
		case t.unstamped == 0 && t.filled == 0:
			l.prev, l.next = t.run, next
		case i == len(losses)-1 && m.ring[(l.seq+uint64(l.n))&mask]&unstamped == 0:
			l.next = next
		}
	}
	t.firstOpen, t.unstamped, t.filled = len(m.losses), 0, 0
}

// findLoss returns the index of the loss that contains x, or -1.
func (m *Meter) findLoss(x uint64) int {
	i := sort.Search(len(m.losses), func(i int) bool { return m.losses[i].seq > x }) - 1
	if i >= 0 && x < m.losses[i].seq+uint64(m.losses[i].n) {
		return i
	}
	return -1
}

// outOfOrder counts a packet whose sequence number x is not above the highest.
func (m *Meter) outOfOrder(x uint64, p *Packet) {
	inside := m.high-x < window
	if inside && x >= m.base && m.ring[x&mask] != 0 {
		m.c.Duplicates++
		return
	}
	if x < m.base {
		m.beforeFirst(x, p)
	}
	i := m.findLoss(x)
	if i < 0 {
		m.c.Duplicates++
		return
	}
	m.count(p)
	m.c.Lost--
	if m.wasNACKed(x) {
		m.c.Recovered++
	} else {
		m.c.Reordered++
	}
	m.dequeueNACK(x)
	fill := m.isPadding(p)
	if fill {
		m.c.Padding++
	}
	m.fillLoss(i, x, p)
	if inside {
		m.ring[x&mask] = m.flags(p, fill || m.late(p, x), x)
		m.completeFrames(x, p)
	}
}

// beforeFirst adds a loss from packet x up to the lowest packet so far.
func (m *Meter) beforeFirst(x uint64, p *Packet) {
	n := int64(m.base - x)
	for y := x; y < m.base; y++ {
		if m.high-y < window {
			m.ring[y&mask] = 0
			m.nacked[y&mask/64] &^= 1 << (y % 64)
		}
	}
	l := loss{seq: x, n: n, prev: none, next: none}
	if m.mapping.stampedFirst {
		l.next = 0
	}
	m.losses = slices.Insert(m.losses, 0, l)
	m.mapping.firstOpen++
	m.mapping.stampedFirst = m.mapping.stampedFirst && p.Stamped
	m.c.Lost += n
	m.base = x
}

// fillLoss removes packet x from loss i, which leaves none, one or two losses, and
// adds the packet to its run.
func (m *Meter) fillLoss(i int, x uint64, p *Packet) {
	t, l := &m.mapping, m.losses[i]
	left, right := l, l
	left.n = int64(x - l.seq)
	right.seq, right.n = x+1, l.n-left.n-1
	switch {
	case i >= t.firstOpen:
		if p.Stamped && t.run != none && p.Stamp.Layer == t.layer {
			r := &t.runs[t.run]
			r.Packets++
			// If the SFU switches layers next, this was the run's last packet.
			r.To = max(r.To, r.after(t.rel+1, p.Stamp.Seq)+1)
			t.filled++
		} else {
			t.unstamped++
		}
	case !p.Stamped && !p.Padding && x < t.firstStamped && l.prev == none && l.next == 0:
		r := &t.runs[0]
		q := r.From - right.n - 1
		right.prev, right.lo, right.hi = 0, q+1, r.From
		r.From = q
		r.Packets++
	case !p.Stamped:
		if l.prev != l.next {
			left.next, right.prev = none, none
		} else if l.prev != none && l.n == l.hi-l.lo {
			t.runs[l.prev].Packets++
			left.hi, right.lo = l.lo+left.n, l.lo+left.n+1
		}
	case l.prev == l.next:
		if l.prev == none {
			break // its run is unknown
		}
		r := &t.runs[l.prev]
		q := r.after(l.lo, p.Stamp.Seq)
		if p.Stamp.Layer != r.Layer || q >= l.hi || l.n <= l.hi-l.lo && (left.n > q-l.lo || right.n > l.hi-q-1) {
			m.c.Contradictions++
			left.prev, left.next, right.prev, right.next = none, none, none, none
			break
		}
		r.Packets++
		r.anchor(q, &p.Stamp)
		left.hi, right.lo = q, q+1
	default:
		m.fillBorder(&left, &right, p)
	}
	var parts []loss
	if left.n > 0 {
		parts = append(parts, left)
	}
	if right.n > 0 {
		parts = append(parts, right)
	}
	m.losses = slices.Replace(m.losses, i, i+1, parts...)
	if i < t.firstOpen {
		t.firstOpen += len(parts) - 1
	}
}

// fillBorder adds an out-of-order packet from between two runs to its run,
// together with the part of the loss that lies on that side of it.
func (m *Meter) fillBorder(left, right *loss, p *Packet) {
	t, s := &m.mapping, &p.Stamp
	if left.next != none {
		r := &t.runs[left.next]
		if s.Layer == r.Layer && (left.prev == none || t.runs[left.prev].Layer != r.Layer || s.Intended >= r.Intended) {
			q := r.before(r.From-1, s.Seq)
			right.prev, right.lo, right.hi = right.next, q+1, r.From
			if right.n > right.hi-right.lo {
				m.c.Contradictions++
				right.prev, right.next = none, none
			}
			r.From, r.Intended = q, s.Intended
			r.Packets++
			r.anchor(q, s)
			return
		}
	}
	if left.prev == none || t.runs[left.prev].Layer != s.Layer {
		left.next, right.prev = none, none
		m.c.Contradictions++
		return
	}
	r := &t.runs[left.prev]
	q := r.after(r.To, s.Seq)
	left.next, left.lo, left.hi = left.prev, r.To, q
	if left.n > left.hi-left.lo {
		m.c.Contradictions++
		left.prev, left.next = none, none
	}
	r.To = q + 1
	r.Packets++
	r.anchor(q, s)
}
