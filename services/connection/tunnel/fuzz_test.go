package tunnel

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// script is a connection that delivers some bytes and then ends.
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

// readFrame reads one frame with the library's own codec.
func readFrame(r io.Reader) (ws.Frame, error) {
	h, err := ws.ReadHeader(r)
	if err != nil {
		return ws.Frame{}, err
	}
	if h.Length > 1<<20 {
		return ws.Frame{}, errors.New("frame too large for a test")
	}
	f := ws.Frame{Header: h, Payload: make([]byte, h.Length)}
	_, err = io.ReadFull(r, f.Payload)
	return f, err
}

// FuzzFrames: the messages that are read are those of an independent reader of the
// same frames.
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
		br := newSocket(&script{in: bytes.NewReader(b), cut: cut}, "", nil, Options{Read: patience, Write: patience})
		ref := bytes.NewReader(b)
		var want []byte
		for {
			msg, err := br.Next()
			if err != nil {
				return
			}
			if len(msg) > MaxMessage {
				t.Fatalf("message of %d bytes", len(msg))
			}
			want = want[:0]
			for {
				fr, err := readFrame(ref)
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
		}
	})
}
