package tunnel

import (
	"encoding/binary"

	"github.com/gobwas/ws"
)

// Headroom is the length of the longest header of an unmasked frame, in bytes
// (RFC 6455, section 5.2).
const Headroom = 10

// putHeader writes the header of an unmasked, final frame so that it ends at
// buf[at] and returns where it starts. at must be at least Headroom.
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
	// head and length are the sizes of the header and the payload in bytes.
	head, length int
}

// parseHeader reads a client's frame header from the start of b. ok is false
// if b does not hold all of it yet. The error is ErrFrame or ErrTooLarge.
func parseHeader(b []byte) (f frame, ok bool, err error) {
	if len(b) < 2 {
		return f, false, nil
	}
	f.op, f.fin = ws.OpCode(b[0]&0x0F), b[0]&0x80 != 0
	f.length, f.head = int(b[1]&0x7F), 2
	switch {
	case b[0]&0x70 != 0:
		return f, false, ErrFrame // section 5.2: RSV must be 0, since no extension was agreed
	case b[1]&0x80 == 0:
		return f, false, ErrFrame // section 5.1: a client masks every frame
	case f.op.IsControl() && (!f.fin || f.length > 125):
		return f, false, ErrFrame // section 5.5
	case f.op.IsReserved():
		return f, false, ErrFrame
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
		if n > MaxMessage {
			return f, false, ErrTooLarge
		}
		f.length = int(n)
	}
	if f.length > MaxMessage {
		return f, false, ErrTooLarge
	}
	copy(f.mask[:], b[f.head:])
	f.head += 4
	return f, true, nil
}
