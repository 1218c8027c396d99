package guac

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Instruction is a view of one complete instruction: its elements point into the
// bytes that were parsed. The zero value is ready to use, and one value can parse
// many instructions without allocating.
type Instruction struct {
	raw      []byte
	elements int
	bounds   [MaxElements]struct{ from, to int }
}

// Parse parses raw, which must be exactly one complete instruction. The error is
// a *SyntaxError. raw must not change while the result is in use.
func (in *Instruction) Parse(raw []byte) error {
	in.raw, in.elements = raw, 0
	var s Scanner
	n, done, err := s.Next(raw)
	if err != nil {
		return err
	}
	if !done || n != len(raw) {
		return &SyntaxError{Offset: int64(n), Err: ErrIncomplete}
	}
	// The scanner has checked the syntax; only the bounds are noted here.
	for i := 0; i < len(raw); {
		length := 0
		for ; raw[i] != '.'; i++ {
			length = length*10 + int(raw[i]-'0')
		}
		from := i + 1
		to := from
		for ; length > 0; length-- {
			if raw[to] < utf8.RuneSelf {
				to++
				continue
			}
			_, size := utf8.DecodeRune(raw[to:])
			to += size
		}
		in.bounds[in.elements].from, in.bounds[in.elements].to = from, to
		in.elements++
		i = to + 1
	}
	return nil
}

// Opcode returns the first element.
func (in *Instruction) Opcode() []byte { return in.element(0) }

// Args returns the number of elements after the opcode.
func (in *Instruction) Args() int { return in.elements - 1 }

// Arg returns the argument at i, counted from 0, or nil if there is none.
func (in *Instruction) Arg(i int) []byte { return in.element(i + 1) }

// Raw returns the bytes that were parsed.
func (in *Instruction) Raw() []byte { return in.raw }

// Strings returns copies of all arguments.
func (in *Instruction) Strings() []string {
	out := make([]string, 0, in.elements)
	for i := range in.Args() {
		out = append(out, string(in.Arg(i)))
	}
	return out
}

func (in *Instruction) element(i int) []byte {
	if i < 0 || i >= in.elements {
		return nil
	}
	b := in.bounds[i]
	return in.raw[b.from:b.to]
}

// Append encodes an instruction and appends it to dst. The result always passes
// the Scanner: for a value that is not UTF-8, contains NUL, or exceeds a bound,
// Append returns dst unchanged and a *SyntaxError.
func Append(dst []byte, opcode string, args ...string) ([]byte, error) {
	start := len(dst)
	if 1+len(args) > MaxElements {
		return dst, &SyntaxError{Err: ErrTooManyElements}
	}
	out, err := appendElement(dst, opcode)
	for _, a := range args {
		if err != nil {
			break
		}
		out, err = appendElement(append(out, ','), a)
	}
	if err == nil && len(out)+1-start > MaxInstruction {
		err = &SyntaxError{Err: ErrInstructionTooLong}
	}
	if err != nil {
		return dst[:start], err
	}
	return append(out, ';'), nil
}

func appendElement(dst []byte, v string) ([]byte, error) {
	switch {
	case !utf8.ValidString(v):
		return dst, &SyntaxError{Err: ErrUTF8}
	case strings.IndexByte(v, 0) >= 0:
		return dst, &SyntaxError{Err: ErrNUL}
	}
	n := utf8.RuneCountInString(v)
	if n > MaxElement {
		return dst, &SyntaxError{Err: ErrElementTooLong}
	}
	dst = strconv.AppendInt(dst, int64(n), 10)
	return append(append(dst, '.'), v...), nil
}

// Is reports whether a complete instruction that has passed the Scanner has the
// opcode whose encoded element is prefix ("4.sync"). Lengths have no leading
// zeros, so the bytes decide.
func Is(raw []byte, prefix string) bool {
	return len(raw) > len(prefix) && string(raw[:len(prefix)]) == prefix &&
		(raw[len(prefix)] == ',' || raw[len(prefix)] == ';')
}

// Int parses a decimal integer of at most 18 digits with an optional "-", which
// C's atoi reads alike. It returns false for anything else.
func Int(b []byte) (int64, bool) {
	neg := bytes.HasPrefix(b, []byte("-"))
	if neg {
		b = b[1:]
	}
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	var v int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		v = v*10 + int64(c-'0')
	}
	if neg {
		v = -v
	}
	return v, true
}
