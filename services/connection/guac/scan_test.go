package guac_test

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/connection/guac"
)

// encode encodes an instruction of a test; it panics on an error.
func encode(opcode string, args ...string) []byte {
	b, err := guac.Append(nil, opcode, args...)
	if err != nil {
		panic(err)
	}
	return b
}

// feed gives the scanner a stream in pieces and returns where instructions ended.
func feed(pieces ...[]byte) (ends []int, err error) {
	var s guac.Scanner
	at := 0
	for _, p := range pieces {
		for len(p) > 0 {
			n, done, err := s.Next(p)
			at += n
			if err != nil {
				return ends, err
			}
			p = p[n:]
			if done {
				ends = append(ends, at)
			}
		}
	}
	return ends, nil
}

// stream holds what breaks other brokers: characters of 2, 3 and 4 bytes
// (one code point each, but up to two UTF-16 units), terminators inside
// values, empty elements, an empty opcode.
func stream() (all []byte, ends []int) {
	for _, in := range [][]byte{
		encode("sync", "1234567"),
		encode("audio", "1", "audio/L16;rate=44100,channels=2"),
		encode("name", "grüße, 日本語; 🙂🙂 done"),
		encode("", "ping", "1700000000000"),
		encode("connect", "", "", "pässwörd;4.evil,1.1;"),
		encode("blob", "1", strings.Repeat("QUJD", 2000)),
		encode("nop"),
		encode("clipboard", "𝒳", "é", strings.Repeat("é", 40)+strings.Repeat("x", 40)+"𝄞"),
	} {
		all = append(all, in...)
		ends = append(ends, len(all))
	}
	return all, ends
}

func TestScannerFindsTheSameBoundariesHoweverTheStreamIsCut(t *testing.T) {
	all, want := stream()
	whole, err := feed(all)
	require.NoError(t, err)
	require.Equal(t, want, whole)
	// Two pieces, cut at every byte: inside lengths, values and characters.
	for cut := range all {
		got, err := feed(all[:cut], all[cut:])
		require.NoError(t, err, "cut at %d", cut)
		require.Equal(t, want, got, "cut at %d", cut)
	}
	// Pieces of every size from one byte to 40.
	for size := 1; size <= 40; size++ {
		var pieces [][]byte
		for from := 0; from < len(all); from += size {
			pieces = append(pieces, all[from:min(len(all), from+size)])
		}
		got, err := feed(pieces...)
		require.NoError(t, err, "pieces of %d", size)
		require.Equal(t, want, got, "pieces of %d", size)
	}
}

func TestScannerEndsOnCharacterBoundaries(t *testing.T) {
	all, ends := stream()
	for _, end := range ends {
		require.True(t, utf8.Valid(all[:end]))
	}
}

func TestScannerBounds(t *testing.T) {
	elements := func(n int) string { return strings.Repeat("1.x,", n-1) + "1.x;" }
	blobs := func(n int) string { // n elements of 8192 bytes
		return strings.Repeat("8192."+strings.Repeat("x", 8192)+",", n-1) + "8192." + strings.Repeat("x", 8192) + ";"
	}
	for name, c := range map[string]struct {
		in   string
		want error
	}{
		"longest element":              {"8192." + strings.Repeat("x", 8192) + ";", nil},
		"longest element of 3 bytes":   {"8192." + strings.Repeat("日", 8192) + ";", nil},
		"element over by one":          {"8193." + strings.Repeat("x", 8193) + ";", guac.ErrElementTooLong},
		"five digits":                  {"99999.", guac.ErrElementTooLong},
		"six digits":                   {"100000.", guac.ErrLength},
		"ten digits overflow an int":   {"4294967297.x;", guac.ErrLength},
		"leading zero":                 {"01.x;", guac.ErrLength},
		"two zeros":                    {"00.;", guac.ErrLength},
		"no length":                    {".x;", guac.ErrLength},
		"not a digit":                  {"-1.x;", guac.ErrLength},
		"a space":                      {" 1.x;", guac.ErrLength},
		"newline between instructions": {"3.nop;\n3.nop;", guac.ErrLength},
		"most elements":                {elements(128), nil},
		"one element too many":         {elements(129), guac.ErrTooManyElements},
		"longest instruction":          {blobs(3) + "", nil},
		"instruction too long":         {blobs(4), guac.ErrInstructionTooLong},
		"length one short":             {"3.nope;", guac.ErrTerminator},
		"length one long":              {"5.nope;", nil}, // needs one more byte
		"bytes counted, not points":    {"5.nöpe;x", guac.ErrTerminator},
		"continuation byte alone":      {"1.\x80;", guac.ErrUTF8},
		"overlong slash":               {"1.\xC0\xAF;", guac.ErrUTF8},
		"overlong of 3 bytes":          {"1.\xE0\x80\xAF;", guac.ErrUTF8},
		"surrogate":                    {"1.\xED\xA0\x80;", guac.ErrUTF8},
		"over U+10FFFF":                {"1.\xF4\x90\x80\x80;", guac.ErrUTF8},
		"cut character":                {"1.\xE6\x97;", guac.ErrUTF8},
		"last code point":              {"1.\xF4\x8F\xBF\xBF;", nil},
	} {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{1, 7, len(c.in)} {
				var pieces [][]byte
				for from := 0; from < len(c.in); from += size {
					pieces = append(pieces, []byte(c.in[from:min(len(c.in), from+size)]))
				}
				_, err := feed(pieces...)
				if c.want == nil {
					require.NoError(t, err)
					continue
				}
				require.ErrorIs(t, err, c.want)
				var syntax *guac.SyntaxError
				require.ErrorAs(t, err, &syntax)
				require.LessOrEqual(t, syntax.Offset, int64(len(c.in)))
			}
		})
	}
}

func TestScannerStaysFailed(t *testing.T) {
	var s guac.Scanner
	_, _, err := s.Next([]byte("x"))
	require.Error(t, err)
	_, _, again := s.Next([]byte("3.nop;"))
	require.Equal(t, err, again)
	require.False(t, s.Between())
}

func TestErrorsHoldNoBytesOfTheStream(t *testing.T) {
	_, err := feed([]byte("3.key,6.hunter2;"))
	require.ErrorIs(t, err, guac.ErrTerminator)
	require.NotContains(t, fmt.Sprintf("%v %+v", err, err), "hunter")
}

// reference is a simple and slow parser: it decodes everything to runes.
func reference(b []byte) (ends []int, ok bool) {
	at := 0
	for at < len(b) {
		start, elements := at, 0
		for {
			dot := bytes.IndexByte(b[at:], '.')
			if dot < 0 {
				return ends, true
			}
			head := string(b[at : at+dot])
			n, err := strconv.Atoi(head)
			if err != nil || strconv.Itoa(n) != head || n < 0 || n > guac.MaxElement {
				return ends, false
			}
			at += dot + 1
			if elements++; elements > guac.MaxElements {
				return ends, false
			}
			for ; n > 0; n-- {
				if at == len(b) {
					return ends, true
				}
				r, size := utf8.DecodeRune(b[at:])
				if r == utf8.RuneError && size <= 1 {
					return ends, !utf8.FullRune(b[at:])
				}
				at += size
			}
			if at == len(b) {
				return ends, true
			}
			c := b[at]
			at++
			if c == ';' {
				break
			}
			if c != ',' {
				return ends, false
			}
		}
		if at-start > guac.MaxInstruction {
			return ends, false
		}
		ends = append(ends, at)
	}
	return ends, true
}

func FuzzScanner(f *testing.F) {
	all, _ := stream()
	f.Add(all, 3)
	f.Add([]byte("4.sync,1.5;3.nop;"), 1)
	f.Add([]byte("0.,36.00000000-0000-0000-0000-000000000000;"), 9)
	f.Add([]byte("8193.x"), 2)
	f.Add([]byte("1.\xF4\x90\x80\x80;"), 1)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		whole, err := feed(b)
		if cut < 0 || cut > len(b) {
			cut = len(b) / 2
		}
		split, errSplit := feed(b[:cut], b[cut:])
		if fmt.Sprint(whole) != fmt.Sprint(split) || !errors.Is(errSplit, errors.Unwrap(err)) {
			t.Fatalf("cut at %d: %v %v, whole: %v %v", cut, split, errSplit, whole, err)
		}
		ends, ok := reference(b)
		if err == nil && !ok {
			t.Fatalf("accepted what the reference refuses: %q", b)
		}
		if fmt.Sprint(ends) != fmt.Sprint(whole) {
			t.Fatalf("boundaries %v, reference %v", whole, ends)
		}
		from := 0
		for _, end := range whole {
			var in guac.Instruction
			if err := in.Parse(b[from:end]); err != nil {
				t.Fatalf("complete instruction does not parse: %v", err)
			}
			if !bytes.ContainsRune(b[from:end], 0) {
				again, err := guac.Append(nil, string(in.Opcode()), in.Strings()...)
				if err != nil || !bytes.Equal(again, b[from:end]) {
					t.Fatalf("encoded again: %q %v, was %q", again, err, b[from:end])
				}
			}
			guac.See(b[from:end])
			guac.SyncTime(b[from:end])
			_, _ = guac.ClientRules{Protocol: "ssh"}.Check(&in, 5)
			from = end
		}
	})
}

func BenchmarkScanner(b *testing.B) {
	image := bytes.Repeat(encode("blob", "1", strings.Repeat("QUJD", 2016)), 8)
	text := bytes.Repeat(encode("name", strings.Repeat("日本語", 300)), 24)
	small := bytes.Repeat(encode("copy", "-1", "0", "0", "100", "20", "14", "0", "512", "384"), 1200)
	for name, stream := range map[string][]byte{"blobs": image, "text": text, "small": small} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(stream)))
			b.ReportAllocs()
			var s guac.Scanner
			for b.Loop() {
				for p := stream; len(p) > 0; {
					n, _, err := s.Next(p)
					if err != nil {
						b.Fatal(err)
					}
					p = p[n:]
				}
			}
		})
	}
}
