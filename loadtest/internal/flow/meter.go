package flow

import (
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// The meter's window, in packets. Older packets are still counted as reordered,
// recovered or duplicate, but no longer complete a frame, and no NACK asks for
// them.
const (
	window = 1024
	mask   = window - 1
)

// The flags of a packet in the window, below its timestamp's low 27 bits. An
// unstamped packet has no stamp although earlier ones had: padding from the SFU,
// or media after a pause or switch, until the publisher's next sender report.
// 0 means not received.
const (
	received = 1 << iota
	frameStart
	frameEnd
	padding
	unstamped
	tsBit = iota
)

// maxMisorder is the distance below the highest sequence number from which a
// packet may be of a restarted sequence (RFC 3550 A.1, MAX_MISORDER).
const maxMisorder = 8192

// MeterConfig describes a stream.
type MeterConfig struct {
	Clock uint32 // ticks per second: 90000 for video, 48000 for Opus
	// Audio has one frame in each packet, whatever the marker bit says.
	Audio bool
	// Starts means that the stream's first media packet is the first of a key
	// frame. LiveKit begins each video stream so (pkg/sfu/forwarder.go, v1.11.0),
	// but forwards stamps only from the publisher's next sender report on: without
	// this, the first frame would count as broken.
	Starts bool
	// Sparse means that the SFU may leave packets out of the stream from its
	// beginning: those of layers that the subscriber does not want.
	Sparse bool
	// Latency records the time from each stamped packet's intended time to its
	// receipt; nil: it is not recorded. Meters under one lock may share it.
	Latency *result.Hist
	// RTT is the time from the first NACK for a packet to the second, 50 ms by
	// default.
	RTT time.Duration
}

// Counters are sums over a stream's life, with the times of its first and last
// packets.
type Counters struct {
	Packets      int64 // without duplicates, with padding
	Bytes        int64 // UDP payload
	PayloadBytes int64
	Lost         int64 // so far: a packet received later no longer counts
	Duplicates   int64
	Reordered    int64 // received after a higher one, without a NACK
	Recovered    int64 // received after a NACK
	// Padding counts packets without media: with the P bit, or, while an audio
	// stream is paused, without a stamp (the silence that an SFU fills muted
	// streams with).
	Padding      int64
	NACKs        int64 // packets that NACKs asked for; each request counts
	Frames       int64 // whole
	FramesBroken int64
	Freezes      int64
	Freeze       time.Duration // of all of them
	Switches     int64         // of the simulcast layer
	// Discarded counts packets whose sequence number fits no part of the stream,
	// Contradictions those whose stamp does not fit their sequence number. Neither
	// should be above 0.
	Discarded      int64
	Contradictions int64

	First int64 // receipt of the first packet, ns of Unix time; 0: none
	// FirstKey is when the first key frame was complete: a stamped one, or the one
	// with which the stream begins (MeterConfig.Starts). ns of Unix time.
	FirstKey int64
	Last     int64   // receipt of the last packet, or the time given to End
	Jitter   float64 // RFC 3550 6.4.1, in seconds
}

// Expected returns the number of packets that the SFU had to deliver (RFC 3550
// A.3).
func (c Counters) Expected() int64 { return c.Packets + c.Lost }

// Meter counts one received SSRC. It takes about 5 KB, plus a few words for each
// loss and each layer switch. Make it with [NewMeter].
type Meter struct {
	// The fields that each packet touches come first: with thousands of streams,
	// loading them from memory takes most of the time.
	base, high uint64 // lowest and highest sequence number, extended; from 1<<16
	lastAt     int64
	jitter     float64 // ticks
	perNs      float64 // ticks
	latency    *result.Hist
	lastTS     uint32
	audio      bool
	begun      bool
	starts     bool
	sparse     bool
	assumedKey bool   // firstMedia begins a key frame by MeterConfig.Starts alone
	firstMedia uint64 // the first media packet, if starts; 0: not yet
	frame      frame
	mapping    mapping
	c          Counters
	pace       pace

	losses    []loss // in order of seq
	nacks     []nack
	rtt       int64
	last      struct{ expected, lost int64 } // of the last receiver report
	resyncing int
	badSeq    uint16
	nacked    [window / 64]uint64
	ring      [window]uint32
}

// NewMeter returns a meter of a stream without packets.
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
	if delta != 1 && !m.outOfSequence(&p, delta) {
		return
	}
	m.high++
	x := m.high
	m.count(&p)
	fill := m.isPadding(&p)
	flags := m.flags(&p, fill, x)
	m.ring[x&mask] = flags
	if p.Stamped {
		m.mapStamped(&p, x)
	} else {
		m.mapping.unstamped++
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

// count counts a packet that is not a duplicate.
func (m *Meter) count(p *Packet) {
	m.c.Packets++
	m.c.Bytes += int64(p.Size)
	m.c.PayloadBytes += int64(p.Payload)
	m.c.Last = max(m.c.Last, p.At)
	if p.Stamped && m.latency != nil {
		m.latency.Record(time.Duration(p.At - p.Stamp.Intended))
	}
}

// isPadding reports whether, by its header, a packet has no media.
func (m *Meter) isPadding(p *Packet) bool {
	return p.Padding || m.audio && m.pace.paused && !p.Stamped
}

func (m *Meter) flags(p *Packet, fill bool, x uint64) uint32 {
	f := p.Timestamp<<tsBit | received
	if p.Padding || !p.Stamped && m.mapping.run != none {
		f |= unstamped
	}
	switch {
	case fill:
		return f | frameStart | frameEnd | padding
	case m.audio:
		return f | frameStart | frameEnd
	}
	if p.Marker {
		f |= frameEnd
	}
	if m.starts && m.startsStream(p, x) || p.Stamped && p.Stamp.First {
		f |= frameStart
	}
	return f
}

// startsStream reports whether the media packet x is the stream's first one and
// has no stamp. A packet received later with a lower sequence number replaces it,
// unless their frame has been counted already.
func (m *Meter) startsStream(p *Packet, x uint64) bool {
	if m.firstMedia != 0 {
		if x >= m.firstMedia || !m.frameOpen(p.Timestamp) {
			return false
		}
		if m.assumedKey {
			m.ring[m.firstMedia&mask] &^= frameStart
		}
	}
	m.firstMedia, m.assumedKey = x, !p.Stamped
	return m.assumedKey
}

// late reports whether x is of the stream's first frame, precedes the packet that
// was taken for its beginning, and was received after that frame was counted.
func (m *Meter) late(p *Packet, x uint64) bool {
	return m.assumedKey && x < m.firstMedia && m.high-m.firstMedia < window && m.ring[m.firstMedia&mask]>>tsBit == p.Timestamp<<tsBit>>tsBit && !m.frameOpen(p.Timestamp)
}

// frameOpen reports whether the newest frame has this timestamp and its end has
// not been received yet.
func (m *Meter) frameOpen(ts uint32) bool { return m.frame.open && m.frame.ts == ts }

// key reports whether packet x alone shows that it is of a key frame.
func (m *Meter) key(p *Packet, x uint64) bool {
	return p.Stamped && p.Stamp.Key || m.assumedKey && x == m.firstMedia
}

// outOfSequence handles a packet that does not follow the highest one. It reports
// whether the packet is now the successor of the highest.
func (m *Meter) outOfSequence(p *Packet, delta int16) bool {
	switch {
	case !m.begun:
		m.begun = true
		m.c.First = p.At
		m.base = 1<<16 + uint64(p.Seq)
		m.high = m.base - 1
		m.mapping.stampedFirst = p.Stamped
		return true
	case delta > 0:
		m.addLoss(m.high+1, uint64(delta)-1, p.At)
		m.high += uint64(delta) - 1
		return true
	case delta <= -maxMisorder:
		return m.badSequence(p, delta)
	}
	m.outOfOrder(m.high-uint64(-int(delta)), p)
	return false
}

// badSequence distinguishes very old packets from a restarted sequence, which
// two consecutive packets indicate (RFC 3550 A.1, bad_seq).
func (m *Meter) badSequence(p *Packet, delta int16) bool {
	x := m.high - uint64(-int(delta))
	if m.findLoss(x) >= 0 {
		m.outOfOrder(x, p)
		return false
	}
	if m.resyncing == 0 || p.Seq != m.badSeq {
		m.c.Discarded++
		m.resyncing, m.badSeq = 1, p.Seq+1
		return false
	}
	m.resyncing = 0
	clear(m.ring[:])
	m.nacks = m.nacks[:0]
	m.mapping.assignLosses(m, none, 0, 0)
	m.mapping.run = none
	m.high = (m.high>>16+2)<<16 + uint64(p.Seq) - 1
	return true
}

// Firsts returns Counters.First and FirstKey. The caller holds the lock under
// which Packet is called.
func (m *Meter) Firsts() (packet, key int64) { return m.c.First, m.c.FirstKey }

// Snapshot returns a copy of the counters. The caller holds the lock under which
// Packet is called.
func (m *Meter) Snapshot() Counters {
	c := m.c
	if m.perNs > 0 {
		c.Jitter = m.jitter / (m.perNs * nanos)
	}
	return c
}
