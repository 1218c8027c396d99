package wire

import "encoding/binary"

// Packet is an RTP packet as it came. Its bytes are valid during the call that
// hands it over.
type Packet struct {
	Bytes []byte
	// At is when it came, in Unix nanoseconds, and Kernel whether that is the
	// kernel's time; else it is when it was read (TURN over TCP and TLS).
	At     int64
	Kernel bool
}

// Sink takes a participant's media. It is called by one goroutine at a time
// per socket, and must not wait.
type Sink interface {
	RTP(packets []Packet)
}

// IsRTP says whether a datagram is RTP: by its first byte (RFC 7983 section 7) and,
// since RTCP shares that range, by its second (RFC 5761 section 4).
func IsRTP(b []byte) bool {
	return len(b) >= 12 && b[0]&0xc0 == 0x80 && (b[1] < 192 || b[1] > 223)
}

// IsRTCP says whether a datagram is RTCP.
func IsRTCP(b []byte) bool {
	return len(b) >= 8 && b[0]&0xc0 == 0x80 && b[1] >= 192 && b[1] <= 223
}

// channelHeader is the length of a ChannelData message's header (RFC 8656
// section 12.4).
const channelHeader = 4

// media finds the RTP packet in a datagram: itself, or what a TURN server's
// ChannelData message carries.
func media(b []byte) ([]byte, bool) {
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
