package guacd_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/connection/engine"
	"github.com/openova-io/bp-relay/services/connection/guac"
)

// One instruction that may not pass is dropped, and nothing else: what comes with
// it and after it arrives.
func TestARefusedInstructionIsDroppedAlone(t *testing.T) {
	t.Parallel()
	a, b := encode("key", "97", "1"), encode("key", "97", "0")
	for name, bad := range map[string]string{
		"unknown opcode":     encode("sudo"),
		"short mouse":        encode("mouse", "1"),
		"the handshake":      encode("connect", "VERSION_1_5_0", "evil"),
		"a future frame":     encode("sync", "99999999999"),
		"a key of no number": encode("key", "undefined", "1"),
		"a NUL":              "3.get,1.0,3.a\x00b;",
		"a malformed ping":   encode("", "ping", "now"),
		"a size of nothing":  encode("size", "NaN", "NaN"),
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, options{})
			r.send(a + bad + b)
			r.send(bad)
			r.send(a)
			r.guacdHears(a + b + a)
			require.Equal(t, a+b+a, r.input.String(), "and the recording says what guacd was sent")
		})
	}
	t.Run("one that is too long, with the rest of its message", func(t *testing.T) {
		r := start(t, options{})
		r.send(a + "4.file,1.0,10.text/plain,9000." + strings.Repeat("x", 9000) + ";" + b)
		r.send(b)
		r.guacdHears(a + b)
	})
}

// Public reports: a browser at 125 %, a client that sends booleans, a file whose
// name has an emoji that the client counted as two.
func TestWhatStockClientsSend(t *testing.T) {
	t.Parallel()
	r := start(t, options{})
	r.send("4.size,7.1251.25,6.751.25;")
	r.send("3.key,2.97,4.true;")
	r.send("4.file,1.0,10.text/plain,9.photo 🙂x;") // 8 code points, 9 UTF-16 units
	r.send("4.size,1.1,1.1;3.key,2.97,5.false;")
	r.guacdHears(encode("size", "1251", "751") + encode("key", "97", "1") + encode("file", "0", "text/plain", "photo 🙂x") +
		encode("size", "160", "120") + encode("key", "97", "0"))
}

// A stream that is refused is refused to the browser, too, in words; what it still
// sends on it goes nowhere.
func TestARefusedStreamIsAcknowledged(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]string{
		"a pipe":       encode("pipe", "3", "text/plain", "STDIN"),
		"the hostname": encode("argv", "3", "text/plain", "hostname"),
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, options{})
			r.send(in)
			answer := encode("ack", "3", "This is not allowed in this session.", guac.ClientForbidden.Decimal())
			require.Equal(t, answer, r.read())
			require.Equal(t, answer, r.output.String(), "what the browser is told is recorded")
			r.send(encode("blob", "3", "cm0gLXJmIC8=") + encode("end", "3") + encode("key", "97", "1"))
			r.guacdHears(encode("key", "97", "1"))
			// The index can be used again.
			again := encode("clipboard", "3", "text/plain") + encode("blob", "3", "QUJD") + encode("end", "3")
			r.send(again)
			r.guacdHears(again)
		})
	}
}

// guacd cuts a paste after 262,144 bytes and says nothing.
func TestAPasteThatIsTooLongIsRefusedInWords(t *testing.T) {
	t.Parallel()
	r := start(t, options{})
	part := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", 6048)))
	r.send(encode("clipboard", "0", "text/plain"))
	sent := encode("clipboard", "0", "text/plain")
	for n := 6048; n <= 262_144; n += 6048 {
		r.send(encode("blob", "0", part))
		sent += encode("blob", "0", part)
	}
	r.send(encode("blob", "0", part))
	require.Contains(t, r.read(), "The clipboard holds at most 262144 bytes here; nothing was pasted.")
	r.send(encode("blob", "0", part) + encode("end", "0") + encode("key", "97", "1"))
	r.guacdHears(sent + encode("clipboard", "0", "text/plain") + encode("end", "0") + encode("key", "97", "1"))
}

// A font size that leaves no room for a character crashes guacd's terminal.
func TestFontSizesAreBounded(t *testing.T) {
	t.Parallel()
	r := start(t, options{})
	set := func(size string) string {
		return encode("argv", "1", "text/plain", "font-size") + encode("blob", "1", base64.StdEncoding.EncodeToString([]byte(size))) + encode("end", "1")
	}
	for _, bad := range []string{"1", "0", "-3", "100", "big", ""} {
		r.send(set(bad))
		require.Contains(t, r.read(), "font size")
	}
	for _, in := range strings.SplitAfter(set("14"), ";")[:3] {
		r.send(in)
	}
	r.guacdHears(set("14"))
}

// A target's title, or the name of a pipe, that is not UTF-8: the session goes on,
// and the recording is what the browser got.
func TestATargetsBytesThatAreNotUTF8(t *testing.T) {
	t.Parallel()
	bad := "4.name,4.caf\xe9;" + "4.pipe,1.0,10.text/plain,3.\xff\xfe!;" + "4.name,1.\xc3;" + encode("sync", "1")
	want := encode("name", "caf\uFFFD") + encode("pipe", "0", "text/plain", "\uFFFD\uFFFD!") + encode("name", "\uFFFD") + encode("sync", "1")
	r := start(t, options{rest: "4.name,4.caf"})
	r.guacdSays(bad[len("4.name,4.caf"):])
	require.Equal(t, want, r.readAll(len(want)))
	for cut := range bad {
		r.guacdSays(bad[:cut])
		r.guacdSays(bad[cut:])
		require.Equal(t, want, r.readAll(len(want)), "cut at %d", cut)
	}
	require.Equal(t, strings.Repeat(want, len(bad)+1), r.output.String())
	r.send(encode("key", "97", "1"))
	r.guacdHears(encode("key", "97", "1"))
}

func TestWhatGuacdMayNotSayIsDroppedAlone(t *testing.T) {
	t.Parallel()
	r := start(t, options{})
	r.guacdSays(encode("sync", "1") + encode("", "evil-uuid") + encode("ready", "$other") + encode("args") + encode("sync", "2"))
	want := encode("sync", "1") + encode("sync", "2")
	require.Equal(t, want, r.readAll(len(want)))
	require.Equal(t, want, r.output.String())
}

// Somebody who reaches guacd's port and knows the connection's id can join it, and
// types what no recording has.
func TestAStrangerEndsASessionThatMustBeRecorded(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]string{
		"guacd 1.5 says so":         encode("msg", "1", "@5b1f", "eve"),
		"the mouse moves by itself": encode("mouse", "10", "20", "0", "12345"),
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, options{})
			r.guacdSays(encode("sync", "1") + in + encode("sync", "2"))
			_, reason, before := r.closes()
			require.Equal(t, guac.SessionConflict.Decimal(), reason)
			require.Contains(t, strings.Join(before, ""), "Somebody joined")
			require.NotContains(t, strings.Join(before, ""), encode("sync", "2"))
			require.Equal(t, engine.Stranger, r.ended().Reason)
			require.Equal(t, []string{"stranger-joined"}, r.noted())
		})
		t.Run(name+", best effort", func(t *testing.T) {
			r := start(t, options{bestEffort: true})
			r.guacdSays(in + in + encode("sync", "2"))
			want := in + in + encode("sync", "2")
			require.Equal(t, want, r.readAll(len(want)))
			require.Equal(t, []string{"stranger-joined"}, r.noted())
		})
	}
	r := start(t, options{})
	r.guacdSays(encode("msg", "2", "@5b1f", "eve") + encode("sync", "1"))
	want := encode("msg", "2", "@5b1f", "eve") + encode("sync", "1")
	require.Equal(t, want, r.readAll(len(want)), "somebody who leaves is none")
}
