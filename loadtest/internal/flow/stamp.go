package flow

// CaptureTimeURI names the header extension that carries a Stamp,
// abs-capture-time.
const CaptureTimeURI = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"

// Grid is the interval of the points in time at which frames may be due, in
// nanoseconds: 262.144 µs. A time's bits below it hold the tag.
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

// Stamp describes a packet in the 64 bits of its header extension
// abs-capture-time.
//
// LiveKit converts the value from NTP to nanoseconds and back (livekit-server
// pkg/sfu/rtpextension/abscapturetime Rewrite), which may change it by a
// nanosecond. So the tag is above the two lowest bits of the nanoseconds, which
// hold the middle of their range.
type Stamp struct {
	// Intended is when the packet's frame was due, in ns of Unix time, rounded down
	// to the grid (see [Align]). All packets of a frame have the same.
	Intended int64
	// Seq is the packet's number on its layer, counted from 0, modulo 4096.
	Seq uint16
	// Layer is the simulcast layer, 0 to 3.
	Layer uint8
	// Key means that the packet is of a key frame, First that it is the first of
	// its frame.
	Key, First bool
}

// Align returns the first point of the grid at or after ns, in ns of Unix time.
func Align(ns int64) int64 { return (ns + Grid - 1) &^ (Grid - 1) }

// NTP returns the stamp as UQ32.32 seconds since 1900, the format of
// abs-capture-time. It is valid for times from 1968 to 2104.
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

// FromNTP decodes a stamp. Every value is valid; the caller must know whether
// the sender wrote a stamp.
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
