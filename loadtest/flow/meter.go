package flow

import (
	"time"

	"github.com/openova-io/bp-relay/loadtest/report"
)

// The meter's window, in packets: older ones are still told apart as late or
// duplicate, but no longer complete a frame or are asked for again.
const (
	window = 1024
	mask   = window - 1
)

// What the window knows of a packet; its timestamp's low 27 bits stand above.
// A bare packet has no stamp although the ones before had: filler of the SFU's,
// or media after a pause or switch, until the publisher's next sender report.
// 0 is a packet that is missing.
const (
	got = 1 << iota
	start
	marker
	filler
	bare
	tsBit = iota
)

// strayFrom is how many packets behind the highest a sequence number is taken
// for another beginning, if its successor follows (RFC 3550 A.1).
const strayFrom = 8192

// MeterConfig says what a stream is.
type MeterConfig struct {
	Clock uint32 // ticks per second: 90000 for video, 48000 for Opus
	// Audio has one frame in each packet, whatever the marker bit says.
	Audio bool
	// Starts says that the stream's first media packet is the first of a key
	// frame. LiveKit begins each video stream so (pkg/sfu/forwarder.go, v1.11.0),
	// but forwards stamps only from the publisher's next sender report on:
	// without this, the first frame would count as broken.
	Starts bool
	// Sparse says that the SFU may leave packets out of the stream from its
	// beginning: layers that are not wanted.
	Sparse bool
	// Latency gets what passed from each stamped packet's intended time to its
	// receipt; nil for none. Meters under one lock may share it.
	Latency *report.Hist
	// RTT is the first distance of two requests for the same packet, 50 ms by
	// default.
	RTT time.Duration
}

// Counters are sums over a stream's life, and its first moments.
type Counters struct {
	Packets      int64 // without duplicates, with padding
	Bytes        int64 // UDP payload
	PayloadBytes int64
	Lost         int64 // so far: a late packet takes itself out
	Duplicates   int64
	Reordered    int64 // came after a later one, without a NACK
	Recovered    int64 // came after a NACK
	// Padding are packets without media: with the P bit, or, while an audio
	// stream is paused, without a stamp (the silence that an SFU fills muted
	// streams with).
	Padding      int64
	NACKs        int64 // packets that were asked for
	Frames       int64 // whole
	FramesBroken int64
	Freezes      int64
	Freeze       time.Duration // of all of them
	Switches     int64         // of the simulcast layer
	// Stray are packets that are of no known part of the stream, Contradictions
	// such whose stamp does not fit its place: 0, or something is wrong.
	Stray          int64
	Contradictions int64

	First int64 // receipt of the first packet, ns of Unix time; 0: none
	// FirstKey is the completion of the first whole key frame: a stamped one, or
	// that with which the stream begins (MeterConfig.Starts).
	FirstKey int64
	Last     int64   // receipt of the last packet, or the end that End was told
	Jitter   float64 // RFC 3550 6.4.1, in seconds
}

// Expected is what the SFU had to deliver.
func (c Counters) Expected() int64 { return c.Packets + c.Lost }

// Meter counts one received SSRC. It takes about 5 KB; what it keeps of each
// gap and each layer switch comes on top. Make it with [NewMeter].
type Meter struct {
	// What each packet touches stands first: in a generator with thousands of
	// streams, the time goes to fetching it.
	base, high uint64 // lowest and highest sequence number, extended; from 1<<16
	lastAt     int64
	jitter     float64 // ticks
	perNs      float64 // ticks
	latency    *report.Hist
	lastTS     uint32
	audio      bool
	begun      bool
	starts     bool
	sparse     bool
	deemed     bool   // opens begins a key frame by MeterConfig.Starts alone
	opens      uint64 // the first media packet, if starts; 0: not yet
	frame      frame
	mapping    mapping
	c          Counters
	pace       pace

	gaps    []gap // in order of down
	pending []hole
	rtt     int64
	last    struct{ expected, lost int64 } // of the last receiver report
	strays  int
	stray   uint16
	nacked  [window / 64]uint64
	ring    [window]uint32
}

// NewMeter is an empty one.
func NewMeter(c MeterConfig) *Meter {
	m := &Meter{audio: c.Audio, starts: c.Starts && !c.Audio, sparse: c.Sparse, perNs: float64(c.Clock) / nanos, latency: c.Latency, rtt: int64(c.RTT)}
	if m.rtt <= 0 {
		m.rtt = int64(50 * time.Millisecond)
	}
	m.mapping.run = none
	return m
}

// Packet counts a packet.
func (m *Meter) Packet(p Packet) {
	delta := int16(p.Seq - uint16(m.high))
	if delta != 1 && !m.outOfLine(&p, delta) {
		return
	}
	m.high++
	x := m.high
	m.count(&p)
	fill := m.fill(&p)
	flags := m.flags(&p, fill, x)
	m.ring[x&mask] = flags
	if p.Stamped {
		m.track(&p, x)
	} else {
		m.mapping.fill++
	}
	if fill {
		m.c.Padding++
		return
	}
	if m.lastAt != 0 {
		d := float64(p.At-m.lastAt)*m.perNs - float64(int32(p.Timestamp-m.lastTS))
		m.jitter += (max(d, -d) - m.jitter) / 16
	}
	m.lastAt, m.lastTS = p.At, p.Timestamp
	m.assemble(&p, x, flags)
}

// count is what is done with each packet that is no duplicate.
func (m *Meter) count(p *Packet) {
	m.c.Packets++
	m.c.Bytes += int64(p.Size)
	m.c.PayloadBytes += int64(p.Payload)
	m.c.Last = max(m.c.Last, p.At)
	if p.Stamped && m.latency != nil {
		m.latency.Record(time.Duration(p.At - p.Stamp.Intended))
	}
}

// fill says whether a packet is without media, as far as its header tells.
func (m *Meter) fill(p *Packet) bool {
	return p.Padding || m.audio && m.pace.paused && !p.Stamped
}

func (m *Meter) flags(p *Packet, fill bool, x uint64) uint32 {
	f := p.Timestamp<<tsBit | got
	if p.Padding || !p.Stamped && m.mapping.run != none {
		f |= bare
	}
	switch {
	case fill:
		return f | start | marker | filler
	case m.audio:
		return f | start | marker
	}
	if p.Marker {
		f |= marker
	}
	if m.starts && m.opening(p, x) || p.Stamped && p.Stamp.First {
		f |= start
	}
	return f
}

// opening says whether the media packet x is the stream's first one, and has
// no stamp that would tell what it is of. One that comes later from before the
// first takes its place, unless their frame has been counted already.
func (m *Meter) opening(p *Packet, x uint64) bool {
	if m.opens != 0 {
		if x >= m.opens || !m.under(p.Timestamp) {
			return false
		}
		if m.deemed {
			m.ring[m.opens&mask] &^= start
		}
	}
	m.opens, m.deemed = x, !p.Stamped
	return m.deemed
}

// belated says whether x is of the first frame, from before what was taken for
// its beginning, and comes when that frame has been counted.
func (m *Meter) belated(p *Packet, x uint64) bool {
	return m.deemed && x < m.opens && m.high-m.opens < window && m.ring[m.opens&mask]>>tsBit == p.Timestamp<<tsBit>>tsBit && !m.under(p.Timestamp)
}

// under says whether the newest frame is that of a timestamp, and not at its
// end yet.
func (m *Meter) under(ts uint32) bool { return m.frame.open && m.frame.ts == ts }

// key says whether packet x is of a key frame, as far as it alone tells.
func (m *Meter) key(p *Packet, x uint64) bool {
	return p.Stamped && p.Stamp.Key || m.deemed && x == m.opens
}

// outOfLine does what a packet that does not follow the highest one needs. If
// it is to go on as its successor, the result is true.
func (m *Meter) outOfLine(p *Packet, delta int16) bool {
	switch {
	case !m.begun:
		m.begun = true
		m.c.First = p.At
		m.base = 1<<16 + uint64(p.Seq)
		m.high = m.base - 1
		m.mapping.opened = p.Stamped
		return true
	case delta > 0:
		m.miss(m.high+1, uint64(delta)-1, p.At)
		m.high += uint64(delta) - 1
		return true
	case delta <= -strayFrom:
		return m.astray(p, delta)
	}
	m.late(m.high-uint64(-int(delta)), p)
	return false
}

// astray tells very late packets from another beginning of the sequence: two
// in a row make one.
func (m *Meter) astray(p *Packet, delta int16) bool {
	x := m.high - uint64(-int(delta))
	if m.find(x) >= 0 {
		m.late(x, p)
		return false
	}
	if m.strays == 0 || p.Seq != m.stray {
		m.c.Stray++
		m.strays, m.stray = 1, p.Seq+1
		return false
	}
	m.strays = 0
	clear(m.ring[:])
	m.pending = m.pending[:0]
	m.mapping.resolve(m, none, 0, 0)
	m.mapping.run = none
	m.high = (m.high>>16+2)<<16 + uint64(p.Seq) - 1
	return true
}

// Firsts are Counters.First and FirstKey. Whoever calls it holds the lock under
// which Packet is called.
func (m *Meter) Firsts() (packet, key int64) { return m.c.First, m.c.FirstKey }

// Snapshot is a copy of the counters. Whoever calls it holds the lock under
// which Packet is called.
func (m *Meter) Snapshot() Counters {
	c := m.c
	if m.perNs > 0 {
		c.Jitter = m.jitter / (m.perNs * nanos)
	}
	return c
}
