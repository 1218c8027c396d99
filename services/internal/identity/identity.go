// Package identity judges names by how people read them. A name may hide or
// reorder what is shown beside it (bidi controls, invisible characters), and it
// may look like one of relay's own although its bytes differ.
package identity

import (
	"strings"
	"unicode"

	"go.mau.fi/util/confusable"
	"golang.org/x/text/cases"
	"golang.org/x/text/runes"
	"golang.org/x/text/transform"
	"golang.org/x/text/unicode/norm"
)

// Plain reports whether none of the characters hides, reorders or ends what is
// shown beside it. It is the rule plain_text (relay/options/v1/rules.proto) for
// what comes in otherwise than in a request; a test holds that they are the same.
func Plain(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return unicode.Is(hidden, r) }) < 0
}

// hidden are the characters that plain text does not have: controls (Cc), line
// and paragraph separators (Zl, Zp), bidi controls, and the default ignorable
// characters (UAX #44) but U+200C, U+200D, variation selectors and Mongolian's,
// which scripts and emoji need.
var hidden = &unicode.RangeTable{
	R16: []unicode.Range16{
		{0x0000, 0x001f, 1}, {0x007f, 0x009f, 1}, {0x00ad, 0x00ad, 1}, {0x034f, 0x034f, 1}, {0x061c, 0x061c, 1}, {0x115f, 0x1160, 1},
		{0x17b4, 0x17b5, 1}, {0x180e, 0x180e, 1}, {0x200b, 0x200b, 1}, {0x200e, 0x200f, 1}, {0x2028, 0x202e, 1}, {0x2060, 0x206f, 1},
		{0x3164, 0x3164, 1}, {0xfeff, 0xfeff, 1}, {0xffa0, 0xffa0, 1}, {0xfff0, 0xfffb, 1},
	},
	R32:         []unicode.Range32{{0xe0000, 0xe00ff, 1}, {0xe01f0, 0xe0fff, 1}},
	LatinOffset: 3,
}

// Begins reports whether a person could read s as something that begins with the
// reserved prefix: in another case, with letters of another script or width, with
// accents, invisible characters, or spaces before it.
func Begins(s, reserved string) bool {
	return strings.HasPrefix(skeleton(s), skeleton(reserved))
}

// Reads reports whether a person could read s as the reserved name.
func Reads(s, reserved string) bool { return skeleton(s) == skeleton(reserved) }

// skeleton is what names that look alike have in common: UTS #39 §4 with
// compatibility forms, case, marks, spaces at the ends and invisible characters
// taken away.
func skeleton(s string) string {
	fold := cases.Fold()
	s = strings.TrimSpace(fold.String(norm.NFKC.String(s)))
	s = norm.NFKC.String(fold.String(confusable.Skeleton(s))) // a digit may have become a capital letter
	bare := transform.Chain(norm.NFD, runes.Remove(runes.In(unicode.M)), runes.Remove(runes.In(unicode.Cf)))
	out, _, err := transform.String(bare, s)
	if err != nil { // the transformers take any string
		return s
	}
	return out
}
