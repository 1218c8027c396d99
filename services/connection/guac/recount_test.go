package guac_test

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/connection/guac"
)

// guacdCounts is guac_utf8_strlen of libguac/unicode.c.
func guacdCounts(s string) (length int) {
	skip := 0
	for i := range len(s) {
		if skip > 0 {
			skip--
			continue
		}
		switch c := s[i]; {
		case c|0x7F == 0x7F:
		case c|0x1F == 0xDF:
			skip = 1
		case c|0x0F == 0xEF:
			skip = 2
		case c|0x07 == 0xF7:
			skip = 3
		}
		length++
	}
	return length
}

// counted encodes an instruction with lengths of that count.
func counted(count func(string) int, values ...string) []byte {
	var b strings.Builder
	for i, v := range values {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(count(v)) + "." + v)
	}
	return []byte(b.String() + ";")
}

func TestWhatGuacdSendsThatIsNotUTF8(t *testing.T) {
	next := string(encode("sync", "12345")) + string(encode("nop"))
	for in, want := range map[string]string{
		"caf\xe9":              "caf\uFFFD", // Latin-1, at the end of the title
		"caf\xe9 noir":         "caf\uFFFD noir",
		"caf\xe9, noir;":       "caf\uFFFD, noir;",
		"\xc3":                 "\uFFFD",             // the U of a title, cut by guacd at its 0x9C
		"\xf0\x9f\x99":         "\uFFFD\uFFFD\uFFFD", // an emoji that was cut
		"\x80\xbf":             "\uFFFD\uFFFD",
		"\xff\xfe":             "\uFFFD\uFFFD",
		"\xed\xa0\x80":         "\uFFFD\uFFFD\uFFFD",
		"\xe9;5.error":         "\uFFFD;5.error",
		"\xf0;7.":              "\uFFFD;7.",
		"good, then bad \xf4;": "good, then bad \uFFFD;",
	} {
		for _, values := range [][]string{{"name", in}, {"pipe", "0", "text/plain", in}, {"error", in, "519"}, {"x", in, ","}, {"x", in, ";;"}} {
			raw := counted(guacdCounts, values...)
			got, n, err := guac.FromGuacd(append(slices.Clip(raw), next...))
			require.NoError(t, err, "%q", in)
			require.Equal(t, len(raw), n, "%q", raw)
			fixed := make([]string, len(values))
			for i, v := range values {
				fixed[i] = strings.ReplaceAll(v, in, want)
			}
			require.Equal(t, string(encode(fixed[0], fixed[1:]...)), string(got))
			for cut := range raw[:len(raw)-1] {
				_, n, err := guac.FromGuacd(raw[:cut])
				require.NoError(t, err)
				require.Zero(t, n, "not complete: %q", raw[:cut])
			}
		}
	}
	_, n, err := guac.FromGuacd([]byte("4.name,3.\xff\xfe\xfd\xfc\xfb;"))
	require.ErrorIs(t, err, guac.ErrTerminator)
	require.Zero(t, n)
	_, n, err = guac.FromGuacd([]byte("4.name,9000.\xff"))
	require.ErrorIs(t, err, guac.ErrElementTooLong)
	require.Zero(t, n)
	_, n, err = guac.FromGuacd(bytes.Repeat([]byte("4096."+strings.Repeat("\xff", 4096)+","), 9))
	require.ErrorIs(t, err, guac.ErrInstructionTooLong)
	require.Zero(t, n)
	// What grows beyond a bound by the repair is lost alone, not cut somewhere.
	raw := counted(guacdCounts, "name", strings.Repeat("\xff", 8000), strings.Repeat("\xff", 8000))
	_, n, err = guac.FromGuacd(append(raw, next...))
	require.ErrorIs(t, err, guac.ErrInstructionTooLong)
	require.Equal(t, len(raw), n)
}

func TestWhatAClientCountsInUTF16(t *testing.T) {
	count := func(s string) int { return len(utf16.Encode([]rune(s))) }
	for _, values := range [][]string{
		{"file", "0", "text/plain", "report 🙂.txt"},
		{"file", "0", "text/plain", "🙂"},
		{"file", "0", "text/plain", "a;🙂🙂,𝒳;1.x"},
		{"clipboard", "0", "text/plain🙂"},
	} {
		raw := counted(count, values...)
		got, n, err := guac.FromUTF16(append(raw, "3.nop;"...))
		require.NoError(t, err)
		require.Equal(t, len(raw), n)
		require.Equal(t, string(encode(values[0], values[1:]...)), string(got))
	}
	for _, bad := range []string{"4.file,1.🙂;", "4.file,3.🙂;", "3.key,6.hunter2;", "hello", "1.\xff;"} {
		_, n, _ := guac.FromUTF16([]byte(bad))
		require.Zero(t, n, bad)
	}
}

func FuzzRecount(f *testing.F) {
	f.Add("caf\xe9", "x")
	f.Add("\xf0;7.", "🙂")
	f.Add("\xe9;5.mouse,1.1;", "")
	f.Fuzz(func(t *testing.T, a, b string) {
		if strings.ContainsRune(a+b, 0) || len(a)+len(b) > 4000 {
			t.Skip()
		}
		next := append(encode("sync", "1"), encode("png", "1")...)
		raw := counted(guacdCounts, "name", a, "x", b)
		got, n, err := guac.FromGuacd(append(slices.Clip(raw), next...))
		if err != nil && !errors.Is(err, guac.ErrInstructionTooLong) || n != len(raw) {
			t.Fatalf("%q: %d of %d, %v", raw, n, len(raw), err)
		}
		if err == nil && (!utf8.Valid(got) || !whole(got)) {
			t.Fatalf("%q became %q", raw, got)
		}
		if out, n, err := guac.FromUTF16([]byte(a)); n > 0 && err == nil && !whole(out) {
			t.Fatalf("%q became %q", a[:n], out)
		}
	})
}

func whole(b []byte) bool {
	var s guac.Scanner
	n, done, err := s.Next(b)
	return err == nil && done && n == len(b)
}
