package guacd

import (
	"bufio"
	"bytes"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/openova-io/bp-relay/services/connection/engine"
	"github.com/openova-io/bp-relay/services/connection/guac"
	"github.com/openova-io/bp-relay/services/connection/tunnel"
)

// sink is a guacd, or a browser, that accepts everything and sends nothing.
type sink struct {
	net.Conn
	got bytes.Buffer
}

func (s *sink) Write(p []byte) (int, error)      { return s.got.Write(p) }
func (s *sink) SetDeadline(time.Time) error      { return nil }
func (s *sink) SetReadDeadline(time.Time) error  { return nil }
func (s *sink) SetWriteDeadline(time.Time) error { return nil }

// hijacked answers an upgrade on a sink.
type hijacked struct {
	*httptest.ResponseRecorder
	conn net.Conn
}

func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.conn, bufio.NewReadWriter(bufio.NewReader(new(bytes.Reader)), bufio.NewWriter(h.conn)), nil
}

func socketOn(f testing.TB, conn net.Conn) *tunnel.Socket {
	f.Helper()
	req := httptest.NewRequest(http.MethodGet, "http://h/tunnel", nil)
	for k, v := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": Subprotocol} {
		req.Header.Set(k, v)
	}
	s, err := tunnel.Accept(hijacked{httptest.NewRecorder(), conn}, req, tunnel.Options{Subprotocols: []string{Subprotocol}})
	if err != nil {
		f.Fatal(err)
	}
	return s
}

// FuzzMessages: whatever a browser sends, guacd is sent whole instructions of valid
// UTF-8 that the rules allow; and a message of whole instructions, good or bad,
// never ends the session.
func FuzzMessages(f *testing.F) {
	f.Add([]byte("3.nop;"))
	f.Add([]byte("3.key,2.97,1.1;5.mouse,1.1,1.2,1.0;"))
	f.Add([]byte("9.clipboard,1.0,10.text/plain;4.blob,1.0,4.QUJD;3.end,1.0;"))
	f.Add([]byte("3.key,2.97,1.1;10.disconnect;"))
	f.Add([]byte("0.,4.ping,3.123;3.key,2.97,1.1;"))
	f.Add([]byte("4.size,7.1251.25,6.751.25;3.key,2.97,4.true;"))
	f.Add([]byte("4.file,1.0,10.text/plain,9.photo \U0001F642x;4.pipe,1.0,1.x,1.y;4.blob,1.0,0.;"))
	f.Add([]byte("4.argv,1.1,10.text/plain,9.font-size;4.blob,1.1,4.MTQ=;3.end,1.1;"))
	f.Add(bytes.Repeat([]byte("é"), 30000))
	browser := socketOn(f, new(sink))
	f.Fuzz(func(t *testing.T, msg []byte) {
		to := new(sink)
		s := session(browser, to)
		keep := bytes.Clone(msg)
		end := newUpstream(s).message(t.Context(), msg)
		if end != nil && end.Reason == engine.ClientViolation && instructions(keep) {
			t.Fatalf("whole instructions ended the session: %q: %v", keep, end)
		}
		if end == nil && !utf8.Valid(keep) && !tooLong(keep) {
			t.Fatalf("invalid UTF-8 was let through: %q", keep)
		}
		if !utf8.Valid(to.got.Bytes()) || !instructions(to.got.Bytes()) {
			t.Fatalf("guacd was sent %q for %q", to.got.Bytes(), keep)
		}
	})
}

// FuzzOutput: whatever a target makes guacd say in a value of any instruction, the
// session goes on, the browser gets whole instructions of valid UTF-8, and they are
// what is recorded.
func FuzzOutput(f *testing.F) {
	f.Add("name", "caf\xe9", "")
	f.Add("pipe", "\xff", "\xf0;7.")
	f.Add("clipboard", "text/\xc3", "0")
	f.Add("sync", "x", "y")
	f.Add("ack", "99", "\xed\xa0\x80")
	f.Add("", "uuid", "")
	f.Fuzz(func(t *testing.T, opcode, a, b string) {
		switch opcode {
		case "error", "disconnect", "required", "msg", "mouse":
			t.Skip() // these may end a session, and they say so
		}
		if strings.ContainsRune(opcode+a+b, 0) || len(opcode+a+b) > 8000 {
			t.Skip() // guacd's strings end at a NUL
		}
		to := new(sink)
		s := session(socketOn(t, to), new(sink))
		got := new(tape)
		s.Output, s.out.record = got, got
		d := newDownstream(s)
		in := "4.sync,1.1;" + counted(opcode, a, b) + "4.sync,1.2;"
		n := copy(d.buf[tunnel.Headroom:], in)
		scanned := 0
		done, end := d.pass(t.Context(), d.buf[tunnel.Headroom:tunnel.Headroom+n], &scanned)
		if end != nil || done != n {
			t.Fatalf("%q: %d of %d, %v", in, done, n, end)
		}
		if !utf8.ValidString(string(*got)) || !instructions(*got) || !bytes.HasSuffix(*got, []byte("4.sync,1.2;")) {
			t.Fatalf("the browser got %q for %q", *got, in)
		}
	})
}

// tape is a recorder.
type tape []byte

func (t *tape) Append(p []byte) error { *t = append(*t, p...); return nil }

func session(browser *tunnel.Socket, to net.Conn) *Session {
	s := &Session{Socket: browser, Guacd: to, Protocol: "ssh", Logger: slog.New(slog.DiscardHandler)}
	s.prepare()
	return s
}

// counted encodes an instruction as guacd counts (guac_utf8_strlen).
func counted(values ...string) string {
	var out strings.Builder
	for i, v := range values {
		length, skip := 0, 0
		for i := range len(v) {
			if skip > 0 {
				skip--
				continue
			}
			length++
			switch c := v[i]; {
			case c|0x7F == 0x7F:
			case c|0x1F == 0xDF:
				skip = 1
			case c|0x0F == 0xEF:
				skip = 2
			case c|0x07 == 0xF7:
				skip = 3
			}
		}
		if i > 0 {
			out.WriteByte(',')
		}
		out.WriteString(strconv.Itoa(length) + "." + v)
	}
	return out.String() + ";"
}

// instructions reports whether p is whole instructions.
func instructions(p []byte) bool {
	var s guac.Scanner
	for len(p) > 0 {
		n, done, err := s.Next(p)
		if err != nil || !done {
			return false
		}
		p = p[n:]
	}
	return true
}

// tooLong reports whether p has an instruction that exceeds a bound, after which a
// message is not read.
func tooLong(p []byte) bool {
	for len(p) > 0 {
		var s guac.Scanner
		n, done, err := s.Next(p)
		if tooBig(err) {
			return true
		}
		if !done {
			raw, m, _ := guac.FromUTF16(p)
			if raw == nil {
				return false
			}
			n = m
		}
		p = p[n:]
	}
	return false
}
