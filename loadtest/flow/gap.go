package flow

import (
	"slices"
	"sort"
)

// gap is a row of sequence numbers that did not come. prev and next are the
// runs that it lies between, none where other packets lie in between. Within a
// run (prev == next) its n packets are among the run's from lo up to hi: all
// of them if there are just n, or fewer and padding of the SFU's was lost too.
type gap struct {
	down       uint64
	n          int64
	prev, next int
	lo, hi     int64
}

// miss notes that n packets from on did not come before a later one did.
func (m *Meter) miss(from, n uint64, at int64) {
	if n == 0 {
		return
	}
	m.c.Lost += int64(n)
	m.await(from, n, at)
	m.gaps = append(m.gaps, gap{down: from, n: int64(n), prev: none, next: none})
}

// resolve says of the gaps since the newest stamped packet that they lie
// before a packet of the run next: within it from lo up to hi, if it is the
// present one, or else at its beginning.
func (t *mapping) resolve(m *Meter, next int, lo, hi int64) {
	open := m.gaps[t.open:]
	var holes int64
	for _, g := range open {
		holes += g.n
	}
	at := lo
	for i := range open {
		g := &open[i]
		switch {
		case next != none && next == t.run:
			g.prev, g.next, g.lo, g.hi = next, next, lo, hi
			if holes == hi-lo { // all of them: in order
				g.lo, g.hi = at, at+g.n
				at += g.n
			}
		case t.fill == 0 && t.stray == 0:
			g.prev, g.next = t.run, next
		case i == len(open)-1 && m.ring[(g.down+uint64(g.n))&mask]&bare == 0:
			g.next = next
		}
	}
	t.open, t.fill, t.stray = len(m.gaps), 0, 0
}

// find is the gap that x is in, or -1.
func (m *Meter) find(x uint64) int {
	i := sort.Search(len(m.gaps), func(i int) bool { return m.gaps[i].down > x }) - 1
	if i >= 0 && x < m.gaps[i].down+uint64(m.gaps[i].n) {
		return i
	}
	return -1
}

// late counts a packet that is not higher than the highest.
func (m *Meter) late(x uint64, p *Packet) {
	inside := m.high-x < window
	if inside && x >= m.base && m.ring[x&mask] != 0 {
		m.c.Duplicates++
		return
	}
	if x < m.base {
		m.early(x, p)
	}
	i := m.find(x)
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
	m.arrived(x)
	fill := m.fill(p)
	if fill {
		m.c.Padding++
	}
	m.take(i, x, p)
	if inside {
		m.ring[x&mask] = m.flags(p, fill || m.belated(p, x), x)
		m.patch(x, p)
	}
}

// early makes room for a packet from before the first one.
func (m *Meter) early(x uint64, p *Packet) {
	n := int64(m.base - x)
	for y := x; y < m.base; y++ {
		if m.high-y < window {
			m.ring[y&mask] = 0
			m.nacked[y&mask/64] &^= 1 << (y % 64)
		}
	}
	g := gap{down: x, n: n, prev: none, next: none}
	if m.mapping.opened {
		g.next = 0
	}
	m.gaps = slices.Insert(m.gaps, 0, g)
	m.mapping.open++
	m.mapping.opened = m.mapping.opened && p.Stamped
	m.c.Lost += n
	m.base = x
}

// take takes x out of gap i, which leaves none, one or two, and gives the
// packet to its run.
func (m *Meter) take(i int, x uint64, p *Packet) {
	t, g := &m.mapping, m.gaps[i]
	left, right := g, g
	left.n = int64(x - g.down)
	right.down, right.n = x+1, g.n-left.n-1
	switch {
	case i >= t.open:
		if p.Stamped && t.run != none && p.Stamp.Layer == t.layer {
			r := &t.runs[t.run]
			r.Packets++
			// Should the SFU go to another layer next, this was the run's last.
			r.To = max(r.To, r.after(t.rel+1, p.Stamp.Seq)+1)
			t.stray++
		} else {
			t.fill++
		}
	case !p.Stamped && !p.Padding && x < t.lead && g.prev == none && g.next == 0:
		r := &t.runs[0]
		q := r.From - right.n - 1
		right.prev, right.lo, right.hi = 0, q+1, r.From
		r.From = q
		r.Packets++
	case !p.Stamped:
		if g.prev != g.next {
			left.next, right.prev = none, none
		} else if g.prev != none && g.n == g.hi-g.lo {
			t.runs[g.prev].Packets++
			left.hi, right.lo = g.lo+left.n, g.lo+left.n+1
		}
	case g.prev == g.next:
		if g.prev == none {
			break // it is of a run, maybe, but nobody knows of which
		}
		r := &t.runs[g.prev]
		q := r.after(g.lo, p.Stamp.Seq)
		if p.Stamp.Layer != r.Layer || q >= g.hi || g.n <= g.hi-g.lo && (left.n > q-g.lo || right.n > g.hi-q-1) {
			m.c.Contradictions++
			left.prev, left.next, right.prev, right.next = none, none, none, none
			break
		}
		r.Packets++
		r.anchor(q, &p.Stamp)
		left.hi, right.lo = q, q+1
	default:
		m.border(&left, &right, p)
	}
	var parts []gap
	if left.n > 0 {
		parts = append(parts, left)
	}
	if right.n > 0 {
		parts = append(parts, right)
	}
	m.gaps = slices.Replace(m.gaps, i, i+1, parts...)
	if i < t.open {
		t.open += len(parts) - 1
	}
}

// border gives a late packet from between two runs to the one that it is of,
// and with it what lies on that side of it.
func (m *Meter) border(left, right *gap, p *Packet) {
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
