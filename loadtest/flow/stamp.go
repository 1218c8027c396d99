package flow

// CaptureTimeURI names the header extension that carries a Stamp,
// abs-capture-time.
const CaptureTimeURI = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"

// Grid is the distance of the points in time on which frames may be due, in
// nanoseconds: 262.144 µs. What a time has below it is free for the tag.
const Grid = 1 << gridBits

const (
	gridBits = 18
	seqBits  = 12
	seqMask  = 1<<seqBits - 1

	// epoch is 1970 in NTP's seconds, which count from 1900 (RFC 5905 6).
	epoch = 2_208_988_800
	nanos = 1_000_000_000
	// era is 2^32 s: NTP's seconds begin again in February 2036.
	era = 1 << 32
)

// Stamp is what a publisher says of a packet, in the 64 bits of the header
// extension abs-capture-time.
//
// LiveKit forwards the value by way of its own time type, NTP to nanoseconds
// and back (livekit-server pkg/sfu/rtpextension/abscapturetime Rewrite), which
// may move it by a nanosecond. So the tag stands above the two lowest bits of
// the nanoseconds, and these are in their middle.
type Stamp struct {
	// Intended is when the packet's frame was due, in ns of Unix time, on the
	// grid (see [Align]); what is off the grid is cut off. All packets of a
	// frame have the same.
	Intended int64
	// Seq is the packet's number on its layer, counted from 0, modulo 4096.
	Seq uint16
	// Layer is the simulcast layer, 0 to 3.
	Layer uint8
	// Key says that the packet is of a key frame, First that it is its frame's
	// first.
	Key, First bool
}

// Align is the first point of the grid that is not before ns, in ns of Unix
// time.
func Align(ns int64) int64 { return (ns + Grid - 1) &^ (Grid - 1) }

// NTP is the stamp as UQ32.32 seconds since 1900, abs-capture-time's form. It
// holds for times from 1968 to 2104.
func (s Stamp) NTP() uint64 {
	tag := uint32(s.Seq&seqMask)<<4 | uint32(s.Layer&3)<<2
	if s.Key {
		tag |= 2
	}
	if s.First {
		tag |= 1
	}
	ns := s.Intended&^(Grid-1) | int64(tag<<2) | 2
	sec, rest := ns/nanos, ns%nanos
	if rest < 0 {
		sec, rest = sec-1, rest+nanos
	}
	frac := (uint64(rest)<<32 + nanos/2) / nanos
	return uint64(sec+epoch)<<32 + frac
}

// FromNTP reads a stamp. Any value gives one: whether the sender meant it as a
// stamp is for the caller to know.
func FromNTP(v uint64) Stamp {
	sec := int64(v >> 32)
	if sec < era/2 { // after 2036, not before 1968
		sec += era
	}
	ns := (sec-epoch)*nanos + int64((v&0xffffffff*nanos+1<<31)>>32)
	tag := uint32(ns&(Grid-1)) >> 2
	return Stamp{
		Intended: ns &^ (Grid - 1),
		Seq:      uint16(tag>>4) & seqMask,
		Layer:    uint8(tag>>2) & 3,
		Key:      tag&2 != 0,
		First:    tag&1 != 0,
	}
}
