package flow

import (
	"math"
	"time"
)

// audioFrame is the duration of each audio packet that this tool's publishers
// send.
const audioFrame = 20 * time.Millisecond

// prepend adds to the stream's first run the packets before its first stamped
// packet x. LiveKit (pkg/sfu/downtrack.go, v1.11.0) forwards stamps only after the
// publisher's next sender report, so these packets are media; before media,
// though, it may have sent padding (video) or silence (audio).
func (t *mapping) prepend(m *Meter, x uint64) {
	oldest, packets := x, int64(0)
	for y := x - 1; y >= m.base && x-y < window; y-- {
		flags := m.ring[y&mask]
		if flags == 0 {
			continue
		}
		// A stamped video packet with the padding flag was late for its frame.
		if flags&unstamped != 0 || m.audio && (flags&padding != 0 || !m.onRTPClock(y, x)) {
			break
		}
		oldest = y
		packets++
	}
	t.stampedFirst, t.firstStamped = true, x
	r := &t.runs[0]
	r.From = -int64(x - oldest)
	r.Packets += packets
	for i := t.firstOpen; i < len(m.losses); i++ {
		l := &m.losses[i]
		switch end := l.seq + uint64(l.n); {
		case l.seq > oldest:
			l.prev, l.next = 0, 0
			l.lo = -int64(x - l.seq)
			l.hi = l.lo + l.n
		case end == oldest: // the beginning of a key frame, or padding
			l.next = 0
		}
	}
	t.firstOpen, t.unstamped, t.filled = len(m.losses), 0, 0
}

// onRTPClock reports whether the timestamps of two audio packets are as far apart
// as their sequence numbers, up to the grid on which they are due. Those of
// LiveKit's silence are not: they follow the wall clock.
func (m *Meter) onRTPClock(x, y uint64) bool {
	d := int32((m.ring[y&mask]>>tsBit - m.ring[x&mask]>>tsBit) << tsBit)
	want := float64(y-x) * m.perNs * float64(audioFrame)
	return math.Abs(float64(d>>tsBit)-want) <= m.perNs*Grid+1
}
