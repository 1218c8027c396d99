package flow

import "time"

// A freeze is an interval between complete frames longer than both freezeFactor
// times the average and the average plus freezeMargin (ns), over the last
// freezeFrames intervals (W3C webrtc-stats, freezeCount). As in libwebrtc, no
// freeze counts before freezeMinFrames.
const (
	freezeFactor    = 3
	freezeMargin    = int64(150 * time.Millisecond)
	freezeFrames    = 30
	freezeMinFrames = 5
)

// frame is the newest frame: that of the highest packet.
type frame struct {
	ts   uint32
	open bool // packets were received, but no marker yet
	ok   bool // all packets from its first to the highest were received
	key  bool
}

// pace holds the intervals between complete frames, in ns.
type pace struct {
	paused bool
	last   int64
	ring   [freezeFrames]int64
	sum    int64
	n, at  int
}

// Pause tells the meter whether the stream is paused because it is muted or not
// among the speakers: an interval without frames is then not a freeze.
func (m *Meter) Pause(on bool) {
	m.pace.paused = on
	m.pace.last = 0
}

// assemble adds the highest packet to the newest frame.
func (m *Meter) assemble(p *Packet, x uint64, flags uint32) {
	f := &m.frame
	follows := m.ring[(x-1)&mask]
	if !f.open || f.ts != p.Timestamp || flags&frameStart != 0 {
		if f.open {
			m.c.FramesBroken++ // its marker is missing
		}
		f.ts, f.open, f.key = p.Timestamp, true, m.key(p, x)
		f.ok = flags&frameStart != 0 || follows&frameEnd != 0
	} else if follows == 0 {
		f.ok = false
	}
	if flags&frameEnd == 0 {
		return
	}
	f.open = false
	if f.ok {
		m.frameComplete(p.At, f.key)
	} else {
		m.c.FramesBroken++
	}
}

// frameComplete counts a complete frame.
func (m *Meter) frameComplete(at int64, key bool) {
	m.c.Frames++
	if key && m.c.FirstKey == 0 {
		m.c.FirstKey = at
	}
	f := &m.pace
	if f.paused {
		return
	}
	last := f.last
	f.last = max(at, last)
	if last == 0 {
		return
	}
	interval := max(at-last, 0)
	m.countFreeze(interval)
	f.sum += interval - f.ring[f.at]
	f.ring[f.at] = interval
	f.at++
	if f.at == freezeFrames {
		f.at = 0
	}
	f.n = min(f.n+1, freezeFrames)
}

// countFreeze counts an interval between frames if it is a freeze.
func (m *Meter) countFreeze(interval int64) {
	f := &m.pace
	if f.n < freezeMinFrames {
		return
	}
	if avg := f.sum / int64(f.n); interval > max(freezeFactor*avg, avg+freezeMargin) {
		m.c.Freezes++
		m.c.Freeze += time.Duration(interval)
	}
}

// End tells the meter that the stream was to continue until at, in ns of Unix
// time: the time since its last complete frame may be a freeze. No call that
// changes the meter may follow.
func (m *Meter) End(at int64) {
	f := &m.pace
	if f.paused || f.last == 0 || at <= f.last {
		return
	}
	m.countFreeze(at - f.last)
	m.c.Last = max(m.c.Last, at)
}

// completeFrames counts the frame of the out-of-order packet x, already in the
// window, again, and the next frame if x has a marker.
func (m *Meter) completeFrames(x uint64, p *Packet) {
	flags := m.ring[x&mask]
	if flags&padding == 0 {
		m.recountFrame(x, x, p.At, m.key(p, x))
	}
	// A frame without stamps begins after a marker; if the marker was received
	// late, the frame was incomplete until now.
	if next := m.ring[(x+1)&mask]; flags&frameEnd != 0 && x < m.high && next != 0 && next&(frameStart|padding) == 0 {
		m.recountFrame(x+1, x, p.At, false)
	}
}

// recountFrame counts the frame of packet x again, now that the packet late was
// received.
func (m *Meter) recountFrame(x, arrived uint64, at int64, key bool) {
	ts := m.ring[x&mask] >> tsBit
	whole, others := true, x != arrived
	oldest := max(m.base, m.high-min(m.high, window-1))
	// Go back to its beginning, over missing packets that may belong to it.
	for y := x; ; y-- {
		f := m.ring[y&mask]
		others = others || f != 0 && y != arrived
		whole = whole && f != 0
		if f&frameStart != 0 {
			key = key || m.assumedKey && y == m.firstMedia
			break
		}
		if y == oldest {
			whole = false
			break
		}
		if before := m.ring[(y-1)&mask]; before != 0 && (before>>tsBit != ts || before&frameEnd != 0) {
			whole = whole && f != 0 && before&frameEnd != 0
			break
		}
	}
	if m.frame.open && m.frame.ts<<tsBit>>tsBit == ts {
		// It is the newest frame, which is counted at its marker. That may be this
		// packet, if only padding followed it.
		m.frame.key = m.frame.key || key
		if m.ring[x&mask]&frameEnd == 0 {
			m.frame.ok = whole && m.complete(x)
			return
		}
		m.frame.open = false
		if whole {
			m.frameComplete(at, m.frame.key)
		} else {
			m.c.FramesBroken++
		}
		return
	}
	ended := false
	for y := x; y <= m.high; y++ {
		f := m.ring[y&mask]
		if f != 0 && (f>>tsBit != ts || y != x && f&frameStart != 0) {
			break
		}
		others = others || f != 0 && y != arrived
		whole = whole && f != 0
		if f&frameEnd != 0 {
			ended = true
			break
		}
	}
	switch {
	case whole && ended:
		if others {
			m.c.FramesBroken--
		}
		m.frameComplete(at, key)
	case !others:
		m.c.FramesBroken++
	}
}

// complete reports whether all packets from x to the highest were received.
func (m *Meter) complete(x uint64) bool {
	for ; x <= m.high; x++ {
		if m.ring[x&mask] == 0 {
			return false
		}
	}
	return true
}
