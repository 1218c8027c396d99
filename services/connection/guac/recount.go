package guac

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// Some senders count the characters of a value otherwise than the protocol says,
// and the instruction would end in the wrong place. Both functions below read the
// instruction at the start of p as its sender counted it, and return it encoded
// correctly, and how many bytes of p it had. If p does not hold all of it, n is 0
// and err is nil. An error with n > 0 concerns this instruction alone: it exceeds
// a bound. With n == 0 the sender cannot be understood.

// FromGuacd reads an instruction of guacd in which a value is not UTF-8: a title
// in Latin-1, or one that guacd cut inside a character. guacd counts by the first
// byte of each character and skips what that byte announces, whatever it is, up
// to the end of the value (guac_utf8_strlen in libguac/unicode.c). U+FFFD stands
// in place of what is not UTF-8.
func FromGuacd(p []byte) (raw []byte, n int, err error) { return recount(p, guacdSpan) }

// FromUTF16 reads an instruction of a client that counts UTF-16 code units, as
// guacamole-common-js does with the length of a string: a character outside the
// BMP counts as two.
func FromUTF16(p []byte) (raw []byte, n int, err error) { return recount(p, utf16Span) }

// span returns how many bytes at the start of p a value of that many characters
// has, or more if p does not hold all of it. It returns false if there is no such
// value.
type span func(p []byte, characters int) (n int, more, ok bool)

func recount(p []byte, bytesOf span) ([]byte, int, error) {
	var values []string
	at := 0
	for {
		length, from, err := lengthAt(p, at)
		switch {
		case err != nil:
			return nil, 0, &SyntaxError{Offset: int64(at), Err: err}
		case len(values) == MaxElements:
			return nil, 0, &SyntaxError{Offset: int64(at), Err: ErrTooManyElements}
		case from == 0:
			return nil, 0, pending(p)
		}
		size, more, ok := bytesOf(p[from:], length)
		to := from + size
		switch {
		case more, ok && to >= len(p):
			return nil, 0, pending(p)
		case !ok, p[to] != ',' && p[to] != ';':
			return nil, 0, &SyntaxError{Offset: int64(from), Err: ErrTerminator}
		}
		values = append(values, replaced(p[from:to]))
		at = to + 1
		if p[to] == ';' {
			raw, err := Append(nil, values[0], values[1:]...)
			return raw, at, err
		}
	}
}

// pending is the error of an instruction that has not ended yet.
func pending(p []byte) error {
	if len(p) >= MaxInstruction {
		return &SyntaxError{Offset: int64(len(p)), Err: ErrInstructionTooLong}
	}
	return nil
}

// lengthAt reads an element's length at p[at:]. from is where its value begins, 0
// if p ends before.
func lengthAt(p []byte, at int) (length, from int, err error) {
	for i := at; i < len(p); i++ {
		c := p[i]
		switch {
		case c == '.' && i > at:
			if length > MaxElement {
				return 0, 0, ErrElementTooLong
			}
			return length, i + 1, nil
		case c < '0' || c > '9' || i-at == MaxDigits || (i > at && length == 0):
			return 0, 0, ErrLength
		}
		length = length*10 + int(c-'0')
	}
	return 0, 0, nil
}

// replaced returns the value with U+FFFD for each byte that is not UTF-8 and for
// each NUL, at most MaxElement characters of it.
func replaced(b []byte) string {
	if utf8.Valid(b) && bytes.IndexByte(b, 0) < 0 && len(b) <= MaxElement {
		return string(b)
	}
	var out strings.Builder
	left := MaxElement
	for _, r := range string(b) { // one U+FFFD for each byte that is not UTF-8
		if left--; left < 0 {
			break
		}
		if r == 0 {
			r = utf8.RuneError
		}
		out.WriteRune(r)
	}
	return out.String()
}

// guacdSpan counts as guac_utf8_strlen does.
func guacdSpan(p []byte, characters int) (n int, more, ok bool) {
	for ; characters > 1; characters-- {
		if n >= len(p) {
			return 0, true, true
		}
		n += announced(p[n])
	}
	if characters == 0 {
		return n, false, true
	}
	if n >= len(p) {
		return 0, true, true
	}
	size := announced(p[n])
	if _, valid := utf8.DecodeRune(p[n:]); valid == size { // a byte that is no character counts as one, too
		return n + size, false, true
	}
	// The value may end inside its last character. The longest possible end at which
	// a terminator and the next length follow is taken: after a value that ended
	// earlier come a terminator, digits and ".", none of which is one. Only if the
	// next value begins with what looks like a length, too, this cannot be told;
	// guacd sends no two values in a row that a target chooses.
	for ; size > 0; size-- {
		switch ends, more := goesOn(p, n+size); {
		case more:
			return 0, true, true
		case ends:
			return n + size, false, true
		}
	}
	return 0, false, false
}

// goesOn reports whether a value ends before p[at]: a terminator is there, and a
// length follows. more means that p is too short to tell.
func goesOn(p []byte, at int) (ends, more bool) {
	if at >= len(p) {
		return false, true
	}
	if p[at] != ',' && p[at] != ';' {
		return false, false
	}
	_, from, err := lengthAt(p, at+1)
	return from > 0, err == nil && from == 0
}

// announced is the number of bytes that guacd expects of a character by its first
// byte (guac_utf8_charsize).
func announced(c byte) int {
	switch {
	case c&0xE0 == 0xC0:
		return 2
	case c&0xF0 == 0xE0:
		return 3
	case c&0xF8 == 0xF0:
		return 4
	default:
		return 1
	}
}

func utf16Span(p []byte, characters int) (n int, more, ok bool) {
	for characters > 0 {
		if !utf8.FullRune(p[n:]) {
			return 0, true, true
		}
		r, size := utf8.DecodeRune(p[n:])
		if r == utf8.RuneError && size == 1 {
			return 0, false, false
		}
		if r > 0xFFFF {
			characters--
		}
		characters--
		n += size
	}
	return n, false, characters == 0
}
