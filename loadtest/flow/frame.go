package flow

import "time"

// A freeze is a gap between frames longer than this many times the average, or
// than the average and this much more, over this many frames (W3C
// webrtc-stats, freezeCount); as libwebrtc, not before there are a few.
const (
	freezeFactor = 3
	freezeMore   = int64(150 * time.Millisecond)
	freezeOver   = 30
	freezeFrom   = 5
)

// frame is the newest frame: the one of the highest packet.
type frame struct {
	ts   uint32
	open bool // it has packets, and no marker yet
	ok   bool // it has all packets from its first up to the highest
	key  bool
}

// pace is the distances of whole frames, in ns.
type pace struct {
	paused bool
	last   int64
	ring   [freezeOver]int64
	sum    int64
	n, at  int
}

// Pause says whether the stream is to be silent, muted or not among the
// speakers: what then lies between two frames is no freeze.
func (m *Meter) Pause(on bool) {
	m.pace.paused = on
	m.pace.last = 0
}

// assemble adds the highest packet to the newest frame.
func (m *Meter) assemble(p *Packet, x uint64, flags uint32) {
	f := &m.frame
	follows := m.ring[(x-1)&mask]
	if !f.open || f.ts != p.Timestamp || flags&start != 0 {
		if f.open {
			m.c.FramesBroken++ // its marker is missing
		}
		f.ts, f.open, f.key = p.Timestamp, true, m.key(p, x)
		f.ok = flags&start != 0 || follows&marker != 0
	} else if follows == 0 {
		f.ok = false
	}
	if flags&marker == 0 {
		return
	}
	f.open = false
	if f.ok {
		m.whole(p.At, f.key)
	} else {
		m.c.FramesBroken++
	}
}

// whole counts a whole frame.
func (m *Meter) whole(at int64, key bool) {
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
	gap := max(at-last, 0)
	m.froze(gap)
	f.sum += gap - f.ring[f.at]
	f.ring[f.at] = gap
	f.at++
	if f.at == freezeOver {
		f.at = 0
	}
	f.n = min(f.n+1, freezeOver)
}

// froze counts a distance of frames that is a freeze.
func (m *Meter) froze(gap int64) {
	f := &m.pace
	if f.n < freezeFrom {
		return
	}
	if avg := f.sum / int64(f.n); gap > max(freezeFactor*avg, avg+freezeMore) {
		m.c.Freezes++
		m.c.Freeze += time.Duration(gap)
	}
}

// End says that the stream was to go on until at, in ns of Unix time: what then
// lies behind its last whole frame may be a freeze. Nothing may come after it.
func (m *Meter) End(at int64) {
	f := &m.pace
	if f.paused || f.last == 0 || at <= f.last {
		return
	}
	m.froze(at - f.last)
	m.c.Last = max(m.c.Last, at)
}

// patch looks what the late packet x, already in the window, does for its
// frame, and by its marker for the next one.
func (m *Meter) patch(x uint64, p *Packet) {
	flags := m.ring[x&mask]
	if flags&filler == 0 {
		m.mend(x, x, p.At, m.key(p, x))
	}
	// A frame without stamps begins behind a marker; if that came late, the
	// frame was not whole until now.
	if next := m.ring[(x+1)&mask]; flags&marker != 0 && x < m.high && next != 0 && next&(start|filler) == 0 {
		m.mend(x+1, x, p.At, false)
	}
}

// mend counts the frame of packet x anew, now that the packet late is there.
func (m *Meter) mend(x, late uint64, at int64, key bool) {
	ts := m.ring[x&mask] >> tsBit
	whole, others := true, x != late
	oldest := max(m.base, m.high-min(m.high, window-1))
	// Back to the beginning, over what is missing, as far as it can be its own.
	for y := x; ; y-- {
		f := m.ring[y&mask]
		others = others || f != 0 && y != late
		whole = whole && f != 0
		if f&start != 0 {
			key = key || m.deemed && y == m.opens
			break
		}
		if y == oldest {
			whole = false
			break
		}
		if before := m.ring[(y-1)&mask]; before != 0 && (before>>tsBit != ts || before&marker != 0) {
			whole = whole && f != 0 && before&marker != 0
			break
		}
	}
	if m.frame.open && m.frame.ts<<tsBit>>tsBit == ts {
		// It is the newest one: whether it is whole is decided at its marker,
		// which may be this packet if only filler came behind it.
		m.frame.key = m.frame.key || key
		if m.ring[x&mask]&marker == 0 {
			m.frame.ok = whole && m.unbroken(x)
			return
		}
		m.frame.open = false
		if whole {
			m.whole(at, m.frame.key)
		} else {
			m.c.FramesBroken++
		}
		return
	}
	ended := false
	for y := x; y <= m.high; y++ {
		f := m.ring[y&mask]
		if f != 0 && (f>>tsBit != ts || y != x && f&start != 0) {
			break
		}
		others = others || f != 0 && y != late
		whole = whole && f != 0
		if f&marker != 0 {
			ended = true
			break
		}
	}
	switch {
	case whole && ended:
		if others {
			m.c.FramesBroken--
		}
		m.whole(at, key)
	case !others:
		m.c.FramesBroken++
	}
}

// unbroken says that nothing is missing from x to the highest.
func (m *Meter) unbroken(x uint64) bool {
	for ; x <= m.high; x++ {
		if m.ring[x&mask] == 0 {
			return false
		}
	}
	return true
}
