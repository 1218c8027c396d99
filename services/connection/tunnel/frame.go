package tunnel

import (
	"encoding/binary"
	"errors"

	"github.com/gobwas/ws"
)

// headroom is the longest header of an unmasked frame: RFC 6455, section 5.2.
const headroom = 10

// What a browser's frame can do wrong.
var (
	errFrame    = errors.New("tunnel: malformed WebSocket frame")
	errTooLarge = errors.New("tunnel: WebSocket message too large")
	errBinary   = errors.New("tunnel: binary WebSocket message")
)

// putHeader writes the header of an unmasked, final frame so that it ends at
// buf[at] and returns where it starts. at must be at least headroom.
func putHeader(buf []byte, at int, op ws.OpCode, payload int) int {
	switch {
	case payload < 126:
		at -= 2
		buf[at+1] = byte(payload)
	case payload < 1<<16:
		at -= 4
		buf[at+1] = 126
		binary.BigEndian.PutUint16(buf[at+2:], uint16(payload))
	default:
		at -= 10
		buf[at+1] = 127
		binary.BigEndian.PutUint64(buf[at+2:], uint64(payload))
	}
	buf[at] = 0x80 | byte(op)
	return at
}

// frame is a client's frame header.
type frame struct {
	op   ws.OpCode
	fin  bool
	mask [4]byte
	// head and length are the header's and the payload's bytes.
	head, length int
}

// parseHeader reads a client's frame header from the start of b; ok is false
// where b does not hold all of it yet.
func parseHeader(b []byte) (f frame, ok bool, err error) {
	if len(b) < 2 {
		return f, false, nil
	}
	f.op, f.fin = ws.OpCode(b[0]&0x0F), b[0]&0x80 != 0
	f.length, f.head = int(b[1]&0x7F), 2
	switch {
	case b[0]&0x70 != 0:
		return f, false, errFrame // no extension was agreed: RSV must be 0
	case b[1]&0x80 == 0:
		return f, false, errFrame // section 5.1: a client masks every frame
	case f.op.IsControl() && (!f.fin || f.length > 125):
		return f, false, errFrame // section 5.5
	case f.op.IsReserved():
		return f, false, errFrame
	}
	switch f.length {
	case 126:
		f.head = 4
	case 127:
		f.head = 10
	}
	if len(b) < f.head+4 {
		return f, false, nil
	}
	switch f.head {
	case 4:
		f.length = int(binary.BigEndian.Uint16(b[2:]))
	case 10:
		n := binary.BigEndian.Uint64(b[2:])
		if n > maxMessage {
			return f, false, errTooLarge
		}
		f.length = int(n)
	}
	if f.length > maxMessage {
		return f, false, errTooLarge
	}
	copy(f.mask[:], b[f.head:])
	f.head += 4
	return f, true, nil
}
