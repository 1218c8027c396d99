package socket

import "encoding/binary"

// Packet is an RTP packet as it arrived, encrypted. Its bytes are valid only during
// the call that hands it over.
type Packet struct {
	Bytes []byte
	// At is its arrival time in Unix nanoseconds. If Kernel is true, the kernel took
	// it; otherwise (TURN over TCP and TLS) it is the time of the read.
	At     int64
	Kernel bool
}

// Sink receives a participant's media. RTP is called by one goroutine at a time per
// socket, must not block, and must not keep the slice.
type Sink interface {
	RTP(packets []Packet)
}

// IsRTP reports whether a datagram is RTP: by its first byte (RFC 7983 section 7)
// and, because RTCP shares that range, by its second (RFC 5761 section 4).
func IsRTP(b []byte) bool {
	return len(b) >= 12 && b[0]&0xc0 == 0x80 && (b[1] < 192 || b[1] > 223)
}

// IsRTCP reports whether a datagram is RTCP (RFC 5761 section 4).
func IsRTCP(b []byte) bool {
	return len(b) >= 8 && b[0]&0xc0 == 0x80 && b[1] >= 192 && b[1] <= 223
}

// channelHeader is the length of a ChannelData message's header (RFC 8656
// section 12.4).
const channelHeader = 4

// media returns the RTP packet in a datagram: the datagram itself, or the content of
// a TURN server's ChannelData message. ok is false if there is none.
func media(b []byte) (rtp []byte, ok bool) {
	if IsRTP(b) {
		return b, true
	}
	if len(b) < channelHeader || b[0] < 0x40 || b[0] > 0x4f {
		return nil, false
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	if inner := b[channelHeader:]; n <= len(inner) && IsRTP(inner[:n]) {
		return inner[:n], true
	}
	return nil, false
}
