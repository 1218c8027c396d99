// Package printable makes text that others wrote safe to show to a person, on
// a terminal, in a log or on a page. Such text (names, reasons, bytes of a file
// that is being judged) could otherwise move the cursor, begin a new line that
// looks like the program's own verdict, reorder what stands next to it (bidi
// controls, Unicode UAX #9) or hide in it (zero-width characters).
//
// What is not safe is shown in the escapes of Go's strings: "\n", "\x1b",
// "\u202e". Line is for a field of one line, Block for a message that may have
// several, NewWriter for a whole page or stream, NewJSON for JSON.
package printable

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxLine bounds a field that Line returns, in bytes; a longer one is cut, and
// says so.
const MaxLine = 1024

// Line returns s for one line of a terminal: without a control or an invisible
// character, and at most MaxLine bytes of s.
func Line(s string) string {
	cut := ""
	if len(s) > MaxLine {
		n := MaxLine
		for n > MaxLine-utf8.UTFMax && !utf8.RuneStart(s[n]) {
			n--
		}
		s, cut = s[:n], fmt.Sprintf("... (%d bytes more)", len(s)-n)
	}
	return escape(s, "") + cut
}

// Block is Line for each line of s. Every line but the first is indented, so
// that no text in s can pass for the beginning of one of the program's own
// lines.
func Block(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = Line(l)
	}
	return strings.Join(lines, "\n  ")
}

// Safe reports whether a terminal shows r as a character of its own: letters,
// marks, numbers, punctuation, symbols, and the spaces that stand between a
// number and its unit.
func Safe(r rune) bool {
	switch {
	case r < 0x7f:
		return r >= ' '
	case r == '\u00a0' || r == '\u2009' || r == '\u202f':
		return true
	}
	return unicode.IsPrint(r) && !unicode.Is(invisible, r)
}

// invisible are printable by their category, and yet show nothing: fillers and
// selectors (Default_Ignorable_Code_Point of UAX #44), and the empty Braille
// pattern.
var invisible = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x034f, Hi: 0x034f, Stride: 1}, {Lo: 0x115f, Hi: 0x1160, Stride: 1}, {Lo: 0x17b4, Hi: 0x17b5, Stride: 1},
		{Lo: 0x180b, Hi: 0x180f, Stride: 1}, {Lo: 0x2800, Hi: 0x2800, Stride: 1}, {Lo: 0x3164, Hi: 0x3164, Stride: 1},
		{Lo: 0xfe00, Hi: 0xfe0f, Stride: 1}, {Lo: 0xffa0, Hi: 0xffa0, Stride: 1},
	},
	R32: []unicode.Range32{{Lo: 0xe0100, Hi: 0xe01ef, Stride: 1}},
}

// escape replaces what is not safe, except the characters in keep.
func escape(s, keep string) string {
	from := 0
	var out strings.Builder
	for i := 0; i < len(s); {
		r, n := rune(s[i]), 1
		if r >= utf8.RuneSelf {
			r, n = utf8.DecodeRuneInString(s[i:])
		}
		bad := r == utf8.RuneError && n == 1
		if !bad && (Safe(r) || strings.ContainsRune(keep, r)) {
			i += n
			continue
		}
		out.WriteString(s[from:i])
		if bad {
			fmt.Fprintf(&out, `\x%02x`, s[i])
		} else {
			out.WriteString(quoted(r))
		}
		i += n
		from = i
	}
	if from == 0 {
		return s
	}
	out.WriteString(s[from:])
	return out.String()
}

func quoted(r rune) string {
	q := strconv.QuoteRuneToASCII(r)
	return q[1 : len(q)-1]
}

// writer escapes a stream.
type writer struct {
	to   io.Writer
	esc  func(string) string
	held []byte // the beginning of a character whose rest was not written yet
}

// Text is for a text of our own with many lines, in which others' texts are
// quoted: it escapes as Line does, except line breaks and tabs.
func Text(s string) string { return escape(s, "\n\t") }

// NewWriter returns a writer that does what Text does, such as for a page of
// HTML. The last bytes of a character that is cut off are not written.
func NewWriter(w io.Writer) io.Writer { return &writer{to: w, esc: Text} }

// NewJSON returns a writer for JSON: what is not safe in a string becomes a
// \u escape, which means the same to a program that reads the JSON.
func NewJSON(w io.Writer) io.Writer { return &writer{to: w, esc: jsonEscape} }

func (w *writer) Write(p []byte) (int, error) {
	b := p
	if len(w.held) > 0 {
		b = append(w.held, p...)
	}
	whole := len(b)
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ { // a character may go on in the next Write
		if c := b[len(b)-n]; utf8.RuneStart(c) {
			if !utf8.FullRune(b[len(b)-n:]) {
				whole = len(b) - n
			}
			break
		}
	}
	held := bytes.Clone(b[whole:])
	if _, err := io.WriteString(w.to, w.esc(string(b[:whole]))); err != nil {
		return 0, err
	}
	w.held = held
	return len(p), nil
}

// jsonEscape escapes in text that is JSON already: only characters within its
// strings can be unsafe, besides white space.
func jsonEscape(s string) string {
	var out strings.Builder
	for _, r := range s {
		switch {
		case r == '\n' || r == '\t' || r == '\r' || Safe(r) && r != utf8.RuneError:
			out.WriteRune(r)
		case r > 0xffff: // a surrogate pair (RFC 8259 §7)
			hi, lo := utf16.EncodeRune(r)
			fmt.Fprintf(&out, `\u%04x\u%04x`, hi, lo)
		default: // bytes that are not UTF-8, too, are U+FFFD here
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return out.String()
}
