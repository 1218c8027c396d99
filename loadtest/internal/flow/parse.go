package flow

import "encoding/binary"

// Tag is the length of the authentication tag that SRTP appends with
// AEAD_AES_128_GCM (RFC 7714 13.1), in bytes.
const Tag = 16

// Packet is what [Meter] counts of a received RTP packet.
type Packet struct {
	Seq       uint16
	Timestamp uint32 // in ticks of the stream's clock
	Marker    bool
	// Size is the datagram's UDP payload, Payload the media in it without RTP
	// header and SRTP tag, both in bytes.
	Size, Payload int
	// Padding reports whether the P bit is set. The length of the padding is
	// encrypted; since neither SFUs nor this tool's publishers pad media, it is the
	// whole payload.
	Padding bool
	Stamped bool
	Stamp   Stamp // when Stamped
	At      int64 // when the kernel received it, ns of Unix time
}

// Parse reads the header of an SRTP packet and sets all fields of p but At. b
// may contain any bytes, and may be only the beginning of a datagram of size
// bytes; a stamp beyond b is not found. actID is the extension id negotiated
// for abs-capture-time, 0 for none, so that no packet has a stamp, as with
// other publishers. ok is false if b is not RTP (RFC 3550 5.1) or is RTCP (RFC
// 5761 4).
func Parse(b []byte, size int, actID uint8, p *Packet) (ssrc uint32, pt uint8, ok bool) {
	if len(b) < 12 || size < len(b) || b[0]>>6 != 2 || b[1] >= 192 && b[1] <= 223 {
		return 0, 0, false
	}
	head := 12 + 4*int(b[0]&15)
	p.Stamped = false
	if b[0]&0x10 != 0 {
		if len(b) < head+4 {
			return 0, 0, false
		}
		profile := binary.BigEndian.Uint16(b[head:])
		from := head + 4
		head = from + 4*int(binary.BigEndian.Uint16(b[head+2:]))
		if actID != 0 {
			p.stamp(profile, b[from:max(from, min(head, len(b)))], actID)
		}
	}
	body := size - head - Tag
	if body < 0 {
		return 0, 0, false
	}
	p.Padding = b[0]&0x20 != 0
	if p.Padding {
		body = 0
	}
	p.Seq = binary.BigEndian.Uint16(b[2:])
	p.Timestamp = binary.BigEndian.Uint32(b[4:])
	p.Marker = b[1]&0x80 != 0
	p.Size, p.Payload = size, body
	return binary.BigEndian.Uint32(b[8:]), b[1] & 0x7f, true
}

// stamp reads the stamp from the header extension's elements e (RFC 8285 4.2, 4.3).
func (p *Packet) stamp(profile uint16, e []byte, id uint8) {
	one := profile == 0xbede
	if !one && profile&0xfff0 != 0x1000 {
		return
	}
	for len(e) > 0 {
		if e[0] == 0 { // a byte of padding
			e = e[1:]
			continue
		}
		var have uint8
		var n, skip int
		if one {
			// "If the ID value 15 is used ... processing of the entire extension
			// MUST terminate" (RFC 8285 4.2).
			if have = e[0] >> 4; have == 15 {
				return
			}
			n, skip = int(e[0]&15)+1, 1
		} else {
			if len(e) < 2 {
				return
			}
			have, n, skip = e[0], int(e[1]), 2
		}
		if len(e) < skip+n {
			return
		}
		if have == id && (n == 8 || n == 16) { // 16: with an estimated clock offset
			p.Stamp, p.Stamped = FromNTP(binary.BigEndian.Uint64(e[skip:])), true
			return
		}
		e = e[skip+n:]
	}
}
