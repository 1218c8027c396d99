// Package vp8 assembles the packets of a VP8 track (RFC 7741), which must be in
// sequence, into frames. After a loss it drops and counts everything up to the
// next keyframe, because a decoder could not show it, and reports that it needs
// a keyframe. It reads only the first bytes of a frame, which end-to-end
// encryption leaves in the clear.
package vp8

import (
	"time"

	"github.com/pion/rtp/codecs"

	"github.com/openova-io/bp-relay/services/media/jitter"
)

// maxFrame bounds a frame in bytes, far above what a real encoder produces.
const maxFrame = 8 << 20

// Frame is one complete frame. Data is valid until the function that received
// it returns.
type Frame struct {
	Data      []byte
	Timestamp uint32    // RTP, 90 kHz
	Arrival   time.Time // of its first packet
	Key       bool
	// Width and Height are in pixels; 0 unless Key.
	Width, Height int
	// Lost says that frames are missing between the last one and this one, and
	// how many packets of them are known: lost, or received and dropped. A first
	// frame has Lost, too.
	Lost    bool
	Dropped int
}

// Assembler assembles frames. It is not safe for concurrent use.
type Assembler struct {
	out     func(Frame)
	desc    codecs.VP8Packet
	frame   Frame
	buf     []byte
	open    bool // a frame is being assembled
	packets int  // of that frame
	broken  bool // waits for a keyframe
	lost    bool // packets before the next one are lost
	missing int  // how many, if known
	dropped int
	picture int  // picture id of the last complete frame, -1 if unknown
	wide    bool // picture ids have 15 bits, not 7
}

// New returns an assembler that waits for its first keyframe and calls out
// for each frame.
func New(out func(Frame)) *Assembler {
	return &Assembler{out: out, broken: true, picture: -1}
}

// NeedsKey reports whether frames are dropped until the next keyframe. The
// caller should then request one.
func (a *Assembler) NeedsKey() bool { return a.broken }

// Break drops all frames until the next keyframe: the caller could not keep one,
// so a decoder could not show those that follow.
func (a *Assembler) Break() { a.abandon(0) }

// Push takes the next packet in sequence.
func (a *Assembler) Push(p jitter.Packet) {
	a.missing += p.Lost
	a.lost = a.lost || p.Lost > 0 || p.Restarted
	if len(p.Payload) == 0 {
		return // padding only
	}
	data, err := a.desc.Unmarshal(p.Payload)
	if err != nil || len(data) == 0 {
		a.abandon(1)
		return
	}
	// "S: Start of VP8 partition", and "PID: the first packet of each frame
	// MUST have PID 0" (RFC 7741 section 4.2).
	first := a.desc.S == 1 && a.desc.PID == 0
	if a.lost {
		a.afterLoss(first)
	}
	if first {
		a.begin(p, data)
	} else if !a.open || p.Header.Timestamp != a.frame.Timestamp {
		a.abandon(1)
		return
	}
	if !a.open {
		return
	}
	if len(a.buf)+len(data) > maxFrame {
		a.abandon(1)
		return
	}
	a.buf = append(a.buf, data...)
	a.packets++
	if p.Header.Marker {
		a.finish()
	}
}

// afterLoss decides what a loss before this packet means. If the last frame was
// complete and this packet has the next picture id, only padding was lost.
func (a *Assembler) afterLoss(first bool) {
	a.lost = false
	if !a.open && first && a.desc.I == 1 && a.picture >= 0 {
		mask := 0x7F
		if a.wide {
			mask = 0x7FFF
		}
		if int(a.desc.PictureID) == (a.picture+1)&mask {
			a.missing = 0
			return
		}
	}
	a.abandon(0)
}

func (a *Assembler) begin(p jitter.Packet, data []byte) {
	if a.open {
		if p.Header.Timestamp == a.frame.Timestamp {
			a.abandon(0) // the frame starts twice
		} else {
			a.finish() // the sender set no marker
		}
	}
	// "P: a single-bit inverse key frame flag" (RFC 6386 section 9.1).
	key := data[0]&1 == 0
	if a.broken && !key {
		a.dropped++
		return
	}
	a.open, a.packets = true, 0
	a.buf = a.buf[:0]
	a.frame = Frame{Timestamp: p.Header.Timestamp, Arrival: p.Arrival, Key: key}
	a.picture, a.wide = -1, false
	if a.desc.I == 1 {
		a.picture, a.wide = int(a.desc.PictureID), a.desc.PictureID > 0x7F || p.Payload[2]&0x80 != 0
	}
}

func (a *Assembler) finish() {
	a.open = false
	f := &a.frame
	if f.Key {
		var ok bool
		if f.Width, f.Height, ok = Size(a.buf); !ok {
			a.abandon(a.packets)
			return
		}
	}
	f.Lost, a.broken = a.broken, false
	f.Data, f.Dropped = a.buf, a.dropped
	a.dropped = 0
	a.out(*f)
}

// abandon drops the frame that is being assembled and all that follow up to the
// next keyframe. dropped counts further packets to report.
func (a *Assembler) abandon(dropped int) {
	if a.open {
		dropped += a.packets
	}
	a.dropped += dropped + a.missing
	a.open, a.broken, a.lost, a.missing, a.packets, a.picture = false, true, false, 0, 0, -1
}

// Size reads the size in pixels from a keyframe: a three-byte tag, a start code,
// then 14 bits each of width and height with two bits of scaling (RFC 6386
// §9.1). ok is false if frame is not a keyframe or a side is 0.
func Size(frame []byte) (width, height int, ok bool) {
	if len(frame) < 10 || frame[0]&1 != 0 || frame[3] != 0x9D || frame[4] != 0x01 || frame[5] != 0x2A {
		return 0, 0, false
	}
	width = (int(frame[6]) | int(frame[7])<<8) & 0x3FFF
	height = (int(frame[8]) | int(frame[9])<<8) & 0x3FFF
	return width, height, width > 0 && height > 0
}
