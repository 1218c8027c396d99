package printable_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/format/printable"
)

// hostile are ways in which text has been used to fake what a program says.
func hostile() map[string]string {
	return map[string]string{
		"newline":       "x\nOK: nothing was changed",
		"return":        "x\rOK: nothing was changed",
		"clear":         "\x1b[2J\x1b[HOK",
		"title":         "\x1b]0;OK\a",
		"C1 control":    "\u009b2JOK",
		"C1 as a byte":  "\x9b2JOK",
		"backspace":     "FAILED\b\b\b\b\b\bOK",
		"delete":        "a\x7fb",
		"override":      "\u202eKO",
		"isolate":       "\u2066a\u2069",
		"zero width":    "ro\u200bot\u200d\u2060\ufeff",
		"soft hyphen":   "a\u00adb",
		"line":          "a\u2028b\u2029c\u0085d",
		"tag":           "a\U000e0041b",
		"selector":      "a\ufe0fb\U000e0101",
		"filler":        "a\u3164\u115f\uffa0\u2800b",
		"space":         "a\u2003\u3000b",
		"not UTF-8":     "a\xff\xc3",
		"surrogate":     "a\xed\xa0\x80b",
		"null":          "a\x00b",
		"private":       "a\ue000b",
		"not assigned":  "a\u0378b",
		"bidi mark":     "a\u200e\u200f\u061cb",
		"interlinear":   "a\ufff9b\ufffab\ufffb",
		"music control": "a\U0001d173b",
	}
}

func TestLineLeavesNothingThatActs(t *testing.T) {
	for what, s := range hostile() {
		got := printable.Line(s)
		require.NotEqual(t, s, got, what)
		require.Contains(t, got, `\`, what)
		for _, r := range got {
			require.True(t, unicode.IsPrint(r) && r != '\ufffd', "%s: %q", what, got)
		}
	}
	require.Equal(t, `x\nOK\x1b[2J\u202e\xff`, printable.Line("x\nOK\x1b[2J\u202e\xff"))
	for _, s := range []string{"", "orgs/acme/rooms/r", "Zo\u00eb \u6f22\u5b57 \u0645\u0631\u062d\u0628\u0627 e\u0301 \U0001f600", `a\b "c"`} {
		require.Equal(t, s, printable.Line(s))
	}
}

func TestALineIsBounded(t *testing.T) {
	got := printable.Line(strings.Repeat("\u6f22", 4000))
	require.LessOrEqual(t, len(got), printable.MaxLine+40)
	require.Contains(t, got, "bytes more)")
}

func TestABlockKeepsItsLinesApartFromOurs(t *testing.T) {
	require.Equal(t, "cannot read\n  OK: fine\\x1b[2J", printable.Block("cannot read\nOK: fine\x1b[2J"))
}

func TestWritersEscapeAcrossWrites(t *testing.T) {
	for what, s := range hostile() {
		for cut := range len(s) {
			var page, doc bytes.Buffer
			w := printable.NewWriter(&page)
			for _, part := range []string{"<p>\n\t", s[:cut], s[cut:], "</p>"} {
				n, err := w.Write([]byte(part))
				require.NoError(t, err)
				require.Equal(t, len(part), n)
			}
			for _, r := range page.String() {
				require.True(t, printable.Safe(r) || r == '\n' || r == '\t', "%s cut at %d: %q", what, cut, page.String())
			}
			text, err := json.Marshal(map[string]string{"k": s})
			require.NoError(t, err)
			j := printable.NewJSON(&doc)
			_, err = j.Write(text[:min(cut, len(text))])
			require.NoError(t, err)
			_, err = j.Write(text[min(cut, len(text)):])
			require.NoError(t, err)
			require.JSONEq(t, string(text), doc.String(), "%s: the same value", what)
			for _, r := range doc.String() {
				require.True(t, printable.Safe(r), "%s: %q", what, doc.String())
			}
		}
	}
}

func TestCopyReachesEveryString(t *testing.T) {
	type inner struct{ S string }
	type kind string
	type all struct {
		Kind kind
		P    *inner
		L    []inner
		A    [1]string
		M    map[string][]string
		Any  any
		N    int
		own  string
		Nil  *inner
	}
	const bad, good = "a\nb", `a\nb`
	v := all{bad, &inner{bad}, []inner{{bad}}, [1]string{bad}, map[string][]string{bad: {bad}}, inner{bad}, 7, bad, nil}
	got := printable.Copy(&v)
	require.Equal(t, &all{good, &inner{good}, []inner{{good}}, [1]string{good}, map[string][]string{good: {good}}, inner{good}, 7, bad, nil}, got)
	require.Equal(t, bad, v.P.S, "the original stays")
}

func TestTextKeepsItsLayout(t *testing.T) {
	require.Equal(t, "a\n\tb 1\u202f000 \\x1b\\u202e", printable.Text("a\n\tb 1\u202f000 \x1b\u202e"))
}

func FuzzLine(f *testing.F) {
	for _, s := range hostile() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range printable.Line(s) {
			require.True(t, printable.Safe(r))
		}
		if len(s) < 100 { // a longer one may be cut twice
			require.Equal(t, printable.Line(s), printable.Line(printable.Line(s)))
		}
	})
}
