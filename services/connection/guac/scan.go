package guac

import (
	"encoding/binary"
	"unicode/utf8"
)

// Scanner finds the ends of instructions in a stream that arrives in pieces. It
// examines each byte once, wherever the stream is cut: a piece may end inside a
// length, a value or a character. It checks the bounds and that values are valid
// UTF-8, so that the bytes up to a boundary are a valid WebSocket text message.
// The zero value is ready to use. It must not be copied while in use, is not safe
// for concurrent use, and stays failed after an error.
type Scanner struct {
	state     state
	digits    int   // digits of the length so far
	remaining int   // code points of the value still to come
	elements  int   // elements of this instruction so far
	size      int   // bytes of this instruction so far
	offset    int64 // bytes of the stream before this piece
	// A character that the end of a piece cuts, or that is read byte by byte:
	need   int  // continuation bytes still to come
	lo, hi byte // bounds of the next one (Unicode 15.0, table 3-7)
	err    error
}

type state uint8

const (
	inLength state = iota
	inValue
	atTerminator
)

// highBits has the bit set that only non-ASCII bytes have.
const highBits = 0x8080808080808080

// Next consumes p up to the end of the current instruction, or all of p if it
// does not end there. It returns the number of consumed bytes and whether the
// instruction is complete. The error is a *SyntaxError.
func (s *Scanner) Next(p []byte) (n int, done bool, err error) {
	if s.err != nil {
		return 0, false, s.err
	}
	i := 0
	for i < len(p) {
		switch s.state {
		case inLength:
			if s.digits == 0 {
				k, done := s.short(p, i)
				if i = k; done {
					return s.complete(i)
				}
				if i == len(p) {
					continue
				}
			}
			c := p[i]
			switch {
			case c >= '0' && c <= '9':
				// "0" alone is a length; "01" is not.
				if s.digits == MaxDigits || (s.digits > 0 && s.remaining == 0) {
					return s.fail(i, ErrLength)
				}
				s.digits++
				s.remaining = s.remaining*10 + int(c-'0')
			case c == '.' && s.digits > 0:
				if s.elements == MaxElements {
					return s.fail(i, ErrTooManyElements)
				}
				if s.remaining > MaxElement {
					return s.fail(i, ErrElementTooLong)
				}
				s.elements++
				s.state = inValue
			default:
				return s.fail(i, ErrLength)
			}
			i++
		case inValue:
			k, ok := s.value(p[i:])
			i += k
			if !ok {
				return s.fail(i, ErrUTF8)
			}
			if s.remaining == 0 && s.need == 0 {
				s.state = atTerminator
			}
		case atTerminator:
			c := p[i]
			i++
			s.digits, s.state = 0, inLength
			switch c {
			case ',':
			case ';':
				return s.complete(i)
			default:
				return s.fail(i-1, ErrTerminator)
			}
		}
	}
	s.size += i
	if s.size >= MaxInstruction {
		return s.fail(i, ErrInstructionTooLong)
	}
	s.offset += int64(i)
	return i, false, nil
}

// complete finishes the instruction whose last byte is before i.
func (s *Scanner) complete(i int) (int, bool, error) {
	if s.size+i > MaxInstruction {
		return s.fail(i, ErrInstructionTooLong)
	}
	s.offset += int64(i)
	s.elements, s.size = 0, 0
	return i, true, nil
}

// short consumes complete elements of at most 99 ASCII characters, which are most
// of a session. It stops at anything else, which Next then handles. It returns
// where it stopped and whether an instruction ended there.
func (s *Scanner) short(p []byte, i int) (int, bool) {
	for len(p)-i >= 12 && s.elements < MaxElements {
		n, from := int(p[i]-'0'), i+2 // a byte below '0' wraps to above 9
		if n > 9 {
			return i, false
		}
		if p[i+1] != '.' {
			unit := int(p[i+1] - '0')
			if unit > 9 || n == 0 || p[i+2] != '.' {
				return i, false
			}
			n, from = n*10+unit, i+3
		}
		to := from + n
		if to >= len(p) {
			return i, false
		}
		if n <= 8 && len(p)-from >= 8 {
			// Ignore the bits above the value's own bytes.
			if binary.LittleEndian.Uint64(p[from:])&(highBits>>(64-8*n)) != 0 {
				return i, false
			}
		} else if asciiRun(p[from:to]) != n {
			return i, false
		}
		switch p[to] {
		case ',':
			s.elements++
			i = to + 1
		case ';':
			s.elements++
			return to + 1, true
		default:
			return i, false
		}
	}
	return i, false
}

// Between reports whether the stream is between two instructions.
func (s *Scanner) Between() bool {
	return s.err == nil && s.state == inLength && s.digits == 0 && s.elements == 0
}

func (s *Scanner) fail(at int, err error) (int, bool, error) {
	s.err = &SyntaxError{Offset: s.offset + int64(at), Err: err}
	return at, false, s.err
}

// value consumes as much of the value as p holds and returns the number of
// bytes. It returns false if the next byte is not UTF-8.
func (s *Scanner) value(p []byte) (int, bool) {
	i := 0
	for s.remaining > 0 || s.need > 0 {
		if s.need == 0 {
			// A code point has at least one byte, so an ASCII run of at most
			// min(remaining, len) bytes never leaves the value.
			k := asciiRun(p[i:min(len(p), i+s.remaining)])
			i += k
			s.remaining -= k
			if s.remaining == 0 {
				return i, true
			}
		}
		if s.need == 0 {
			for s.remaining > 0 && len(p)-i >= utf8.UTFMax && p[i] >= utf8.RuneSelf {
				r, size := utf8.DecodeRune(p[i:])
				if r == utf8.RuneError && size == 1 {
					return i, false
				}
				i += size
				s.remaining--
			}
			if s.remaining == 0 || (i < len(p) && p[i] < utf8.RuneSelf) {
				continue
			}
		}
		if i == len(p) {
			return i, true
		}
		if !s.multibyte(p[i]) {
			return i, false
		}
		i++
	}
	return i, true
}

// multibyte consumes one byte of a character that is not ASCII. The bounds of the
// second byte exclude overlong forms, surrogates and code points above U+10FFFF
// (Unicode 15.0, table 3-7).
func (s *Scanner) multibyte(c byte) bool {
	if s.need > 0 {
		if c < s.lo || c > s.hi {
			return false
		}
		s.need--
		s.lo, s.hi = 0x80, 0xBF
		return true
	}
	s.lo, s.hi = 0x80, 0xBF
	switch {
	case c >= 0xC2 && c <= 0xDF:
		s.need = 1
	case c >= 0xE0 && c <= 0xEF:
		s.need = 2
		if c == 0xE0 {
			s.lo = 0xA0
		} else if c == 0xED {
			s.hi = 0x9F
		}
	case c >= 0xF0 && c <= 0xF4:
		s.need = 3
		if c == 0xF0 {
			s.lo = 0x90
		} else if c == 0xF4 {
			s.hi = 0x8F
		}
	default:
		return false
	}
	s.remaining--
	return true
}

// asciiRun returns the number of ASCII bytes at the start of p. It examines 32 and
// then 8 at a time.
func asciiRun(p []byte) int {
	i := 0
	for len(p)-i >= 32 {
		q := p[i : i+32 : i+32]
		w := binary.LittleEndian.Uint64(q) | binary.LittleEndian.Uint64(q[8:]) |
			binary.LittleEndian.Uint64(q[16:]) | binary.LittleEndian.Uint64(q[24:])
		if w&highBits != 0 {
			break
		}
		i += 32
	}
	for len(p)-i >= 8 && binary.LittleEndian.Uint64(p[i:])&highBits == 0 {
		i += 8
	}
	for i < len(p) && p[i] < 0x80 {
		i++
	}
	return i
}
