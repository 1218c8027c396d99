package flow

import (
	"math"
	"time"
)

// audioFrame is the duration of each packet of our audio.
const audioFrame = 20 * time.Millisecond

// begin ties what came before the stream's first stamped packet x to its run.
// LiveKit (pkg/sfu/downtrack.go, v1.11.0) forwards stamps only from the
// publisher's next sender report on, so these packets are media; but it may
// have sent padding with video or silence with audio before it had any.
func (t *mapping) begin(m *Meter, x uint64) {
	first, packets := x, int64(0)
	for y := x - 1; y >= m.base && x-y < window; y-- {
		flags := m.ring[y&mask]
		if flags == 0 {
			continue
		}
		// Of video, what is filler and not bare came too late for its frame.
		if flags&bare != 0 || m.audio && (flags&filler != 0 || !m.apart(y, x)) {
			break
		}
		first = y
		packets++
	}
	t.opened, t.lead = true, x
	r := &t.runs[0]
	r.From = -int64(x - first)
	r.Packets += packets
	for i := t.open; i < len(m.gaps); i++ {
		g := &m.gaps[i]
		switch end := g.down + uint64(g.n); {
		case g.down > first:
			g.prev, g.next = 0, 0
			g.lo = -int64(x - g.down)
			g.hi = g.lo + g.n
		case end == first: // the beginning of a key frame, or padding
			g.next = 0
		}
	}
	t.open, t.fill, t.stray = len(m.gaps), 0, 0
}

// apart says whether two packets of audio are as far apart in time as in their
// numbers, but for the grid on which they are due. LiveKit's silence is not: its
// times follow the clock on the wall.
func (m *Meter) apart(x, y uint64) bool {
	d := int32((m.ring[y&mask]>>tsBit - m.ring[x&mask]>>tsBit) << tsBit)
	want := float64(y-x) * m.perNs * float64(audioFrame)
	return math.Abs(float64(d>>tsBit)-want) <= m.perNs*Grid+1
}
