package tunnel

import (
	"bytes"
	"net"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// script is a connection that says these bytes and then ends.
type script struct {
	net.Conn
	in  *bytes.Reader
	cut int
}

func (s *script) Read(p []byte) (int, error) {
	if s.cut > 0 && len(p) > s.cut {
		p = p[:s.cut]
	}
	return s.in.Read(p)
}
func (s *script) Write(p []byte) (int, error)      { return len(p), nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// FuzzFrames reads what a browser could send. What comes out must be what an
// independent reader of the same frames gets.
func FuzzFrames(f *testing.F) {
	mask := [4]byte{1, 2, 3, 4}
	text := ws.MustCompileFrame(ws.MaskFrameWith(ws.NewTextFrame([]byte("3.nop;")), mask))
	half := ws.MustCompileFrame(ws.MaskFrameWith(ws.NewFrame(ws.OpText, false, []byte("3.n")), mask))
	rest := ws.MustCompileFrame(ws.MaskFrameWith(ws.NewFrame(ws.OpContinuation, true, []byte("op;")), mask))
	ping := ws.MustCompileFrame(ws.MaskFrameWith(ws.NewPingFrame([]byte("x")), mask))
	f.Add(text, 1)
	f.Add(bytes.Join([][]byte{half, ping, rest, text}, nil), 3)
	f.Add(ws.MustCompileFrame(ws.MaskFrameWith(ws.NewTextFrame(bytes.Repeat([]byte("é"), 30000)), mask)), 7)
	f.Add([]byte{0x81, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}, 0)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		br := newBrowser(&script{in: bytes.NewReader(b), cut: cut}, nil, usual())
		ref := bytes.NewReader(b)
		var want []byte
		for {
			msg, err := br.next()
			if err != nil {
				return
			}
			if len(msg) > maxMessage {
				t.Fatalf("message of %d bytes", len(msg))
			}
			want = want[:0]
			for {
				fr, err := ReadFrame(ref)
				if err != nil {
					t.Fatalf("a message came where the reference has %v", err)
				}
				fr = ws.UnmaskFrameInPlace(fr)
				if fr.Header.OpCode.IsControl() {
					continue
				}
				want = append(want, fr.Payload...)
				if fr.Header.Fin {
					break
				}
			}
			if !bytes.Equal(msg, want) {
				t.Fatalf("%q, want %q", msg, want)
			}
			u := newUp(&Session{Browser: br, Protocol: "ssh"})
			u.s.guacd.conn, u.s.guacd.writes = &script{in: bytes.NewReader(nil)}, deadline{set: func(time.Time) error { return nil }}
			keep := bytes.Clone(msg)
			if u.message(msg) == nil && !utf8.Valid(keep) {
				t.Fatal("invalid UTF-8 was let through")
			}
		}
	})
}
