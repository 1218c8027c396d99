// Package tunnel is a browser's WebSocket of a session, as far as all engines
// share it: the upgrade, the check of the page's origin, the ticket, and the
// frames. It is made for a hot path. A message is sent with one write from the
// buffer its bytes were read into, with the frame's header in the headroom
// before them; a received message is unmasked in place. Nothing is allocated
// per message and nothing is compressed.
package tunnel

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/gobwas/ws"

	"github.com/openova-io/bp-relay/services/connection/internal/deadline"
)

const (
	// MaxMessage is the longest message that a client may send, in bytes.
	MaxMessage = 64 << 10
	// MaxSmall is the longest message of SendSmall and Echo, in bytes.
	MaxSmall = 128
	// Farewell bounds the closing of a socket.
	Farewell = 400 * time.Millisecond
)

// What ends the reading of messages, besides the connection's own errors.
var (
	// ErrClosed: the client sent a close frame, or one was sent to it.
	ErrClosed = errors.New("tunnel: closed by the client")
	// ErrFrame: a frame breaks RFC 6455.
	ErrFrame = errors.New("tunnel: malformed WebSocket frame")
	// ErrTooLarge: a message is longer than MaxMessage.
	ErrTooLarge = errors.New("tunnel: WebSocket message too large")
	// ErrBinary: a message is binary.
	ErrBinary = errors.New("tunnel: binary WebSocket message")
)

// Socket is an accepted WebSocket. One goroutine reads; any may write.
type Socket struct {
	conn        net.Conn
	subprotocol string
	reads       deadline.Deadline
	writes      deadline.Deadline

	// The reader's own: in[from:to] was received and not yet returned.
	in       []byte
	from, to int
	partial  []byte // a fragmented message so far
	fragment bool
	closed   bool // the client's close frame was received

	mu     sync.Mutex // held while a frame is written
	broken error      // a frame was cut, or a close frame sent: nothing can follow
	small  [Headroom + MaxSmall]byte

	// The newest message to echo, sent by whoever holds mu next: an echo never
	// waits for a message that a slow client is still receiving.
	echoMu sync.Mutex
	echo   [MaxSmall]byte
	echoN  int
}

func newSocket(conn net.Conn, subprotocol string, early []byte, o Options) *Socket {
	s := &Socket{conn: conn, subprotocol: subprotocol, in: make([]byte, MaxMessage+Headroom+4)}
	s.reads = deadline.Deadline{Set: conn.SetReadDeadline, Ahead: o.Read}
	s.writes = deadline.Deadline{Set: conn.SetWriteDeadline, Ahead: o.Write}
	s.to = copy(s.in, early)
	return s
}

// Subprotocol is the subprotocol that was agreed.
func (s *Socket) Subprotocol() string { return s.subprotocol }

// RemoteAddr is the client's address as this machine sees it.
func (s *Socket) RemoteAddr() string { return s.conn.RemoteAddr().String() }

// Close closes the connection without a close frame; see Goodbye.
func (s *Socket) Close() { _ = s.conn.Close() }

// Send sends buf[at:at+n] as one text message. It writes the frame's header
// into the Headroom bytes before at, so that sending is one write and no copy.
// at must be at least Headroom.
func (s *Socket) Send(buf []byte, at, n int) error {
	start := putHeader(buf, at, ws.OpText, n)
	s.writes.Arm()
	s.mu.Lock()
	err := s.write(buf[start : at+n])
	s.mu.Unlock()
	s.flushEcho()
	return err
}

// SendSmall sends a copy of p, at most MaxSmall bytes, as one text message.
func (s *Socket) SendSmall(p []byte) error {
	s.writes.Arm()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.frame(ws.OpText, p)
}

// Echo sends a copy of p, at most MaxSmall bytes, as one text message without
// waiting for a message that is being written: the writer sends it next. If
// several wait for a slow client, only the newest is sent.
func (s *Socket) Echo(p []byte) {
	s.echoMu.Lock()
	s.echoN = copy(s.echo[:], p)
	s.echoMu.Unlock()
	s.flushEcho()
}

// flushEcho sends a waiting echo unless somebody is writing, who calls
// flushEcho afterwards.
func (s *Socket) flushEcho() {
	for s.echoWaits() && s.mu.TryLock() {
		s.echoMu.Lock()
		var msg [MaxSmall]byte
		n := copy(msg[:], s.echo[:s.echoN])
		s.echoN = 0
		s.echoMu.Unlock()
		if n > 0 {
			s.writes.Arm()
			_ = s.frame(ws.OpText, msg[:n]) // the data path meets the same error
		}
		s.mu.Unlock()
	}
}

func (s *Socket) echoWaits() bool {
	s.echoMu.Lock()
	defer s.echoMu.Unlock()
	return s.echoN > 0
}

// Ping sends a WebSocket ping unless a message is being written: the client is
// not idle then.
func (s *Socket) Ping() {
	if !s.mu.TryLock() {
		return
	}
	s.writes.Arm()
	_ = s.frame(ws.OpPing, nil) // the data path meets the same error
	s.mu.Unlock()
	s.flushEcho()
}

// write sends whole frames; mu is held. A frame that was cut breaks the
// connection for good.
func (s *Socket) write(p []byte) error {
	if s.broken != nil {
		return s.broken
	}
	if _, err := s.conn.Write(p); err != nil {
		s.broken = err
		return err
	}
	return nil
}

// frame sends a small frame (at most MaxSmall bytes); mu is held.
func (s *Socket) frame(op ws.OpCode, payload []byte) error {
	n := copy(s.small[Headroom:], payload)
	start := putHeader(s.small[:], Headroom, op, n)
	return s.write(s.small[start : Headroom+n])
}

// StopWriting cuts off writers that wait for the client after half of
// Farewell at the latest. Goodbye still works.
func (s *Socket) StopWriting() { s.writes.Stop(Farewell / 2) }

// Goodbye sends one last message and a close frame with this code and reason
// (RFC 6455, section 7.4). last returns the message with Headroom bytes before
// it, or nil for none; it is called once no other message can be sent, and not
// at all if the connection is broken. Goodbye then leaves the reader Farewell to
// see the client's own close frame, so that closing does not discard what is
// still under way (section 7.1.1): call Drain next. It takes at most Farewell,
// even if a writer is stuck.
func (s *Socket) Goodbye(last func() []byte, code uint16, reason string) {
	s.StopWriting() // for whoever is writing an echo now
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.reads.Stop(Farewell)
	if s.broken != nil {
		return
	}
	s.StopWriting() // the last message gets its own time
	if msg := last(); msg != nil {
		if s.write(msg[putHeader(msg, Headroom, ws.OpText, len(msg)-Headroom):]) != nil {
			return
		}
	}
	_ = s.frame(ws.OpClose, ws.NewCloseFrameBody(ws.StatusCode(code), reason))
	s.broken = ErrClosed // RFC 6455, section 5.5.1: nothing follows a close frame
}

// Drain reads on until the client's close frame, the end of its connection, or
// Goodbye's deadline.
func (s *Socket) Drain() {
	for {
		if _, err := s.Next(); err != nil {
			if errors.Is(err, ErrFrame) || errors.Is(err, ErrTooLarge) {
				_, _ = io.Copy(io.Discard, s.conn)
			}
			return
		}
	}
}

// Next returns the next text message, unmasked in place and valid until the
// following call. It answers control frames itself and returns ErrClosed after
// a close frame.
func (s *Socket) Next() ([]byte, error) {
	for {
		if s.closed {
			return nil, ErrClosed
		}
		f, ok, err := parseHeader(s.in[s.from:s.to])
		if err != nil {
			return nil, err
		}
		if !ok || s.to-s.from < f.head+f.length {
			if err := s.fill(); err != nil {
				return nil, err
			}
			continue
		}
		payload := s.in[s.from+f.head : s.from+f.head+f.length]
		s.from += f.head + f.length
		ws.Cipher(payload, f.mask, 0)
		msg, whole, err := s.take(f, payload)
		if err != nil || whole {
			return msg, err
		}
	}
}

// take handles one frame and returns a message if the frame completes one.
func (s *Socket) take(f frame, payload []byte) (msg []byte, whole bool, err error) {
	switch f.op {
	case ws.OpClose:
		s.closed = true
		return nil, false, ErrClosed
	case ws.OpPing:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.writes.Arm()
		return nil, false, s.frame(ws.OpPong, payload)
	case ws.OpPong:
		return nil, false, nil
	case ws.OpBinary:
		return nil, false, ErrBinary
	}
	if (f.op == ws.OpContinuation) != s.fragment {
		return nil, false, ErrFrame
	}
	if f.fin && !s.fragment {
		return payload, true, nil
	}
	if f.op == ws.OpText {
		s.partial = s.partial[:0]
	}
	if len(s.partial)+len(payload) > MaxMessage {
		return nil, false, ErrTooLarge
	}
	s.partial = append(s.partial, payload...)
	s.fragment = !f.fin
	return s.partial, f.fin, nil
}

func (s *Socket) fill() error {
	if s.from > 0 {
		s.to = copy(s.in, s.in[s.from:s.to])
		s.from = 0
	}
	s.reads.Arm()
	n, err := s.conn.Read(s.in[s.to:])
	s.to += n
	if n == 0 && err != nil {
		return err
	}
	return nil
}
