package tunnel

import (
	"errors"
	"io"
	"net"
	"sync"

	"github.com/gobwas/ws"

	"github.com/openova-io/bp-relay/services/connection/guac"
)

// maxMessage is the longest message that a browser may send, in bytes: two of
// the longest instructions.
const maxMessage = 2 * guac.MaxInstruction

// errClosed: a close frame went one way or the other.
var errClosed = errors.New("tunnel: closed by the browser")

// Browser is an accepted WebSocket of subprotocol "guacamole". One goroutine
// reads; any may write.
type Browser struct {
	conn   net.Conn
	times  times
	reads  deadline
	writes deadline

	// The reader's own: in[from:to] is what has come and was not returned.
	in       []byte
	from, to int
	partial  []byte // a fragmented message so far
	fragment bool
	closed   bool // the browser's close frame has come

	mu     sync.Mutex // held while a frame is written
	broken error      // a frame was cut: nothing can follow it
	small  [headroom + 128]byte

	// The newest ping to echo, sent by whoever holds mu next: an echo never
	// waits for a chunk that a slow browser is taking.
	echoMu sync.Mutex
	echo   [64]byte
	echoN  int
}

func newBrowser(conn net.Conn, early []byte, t times) *Browser {
	b := &Browser{conn: conn, times: t, in: make([]byte, maxMessage+headroom+4)}
	b.reads = deadline{set: conn.SetReadDeadline, ahead: t.read}
	b.writes = deadline{set: conn.SetWriteDeadline, ahead: t.write}
	b.to = copy(b.in, early)
	return b
}

// text sends buf[at:at+n] as one message, with its header in the bytes before
// at, which it overwrites: one write, no copy.
func (b *Browser) text(buf []byte, at, n int) error {
	start := putHeader(buf, at, ws.OpText, n)
	b.writes.arm()
	b.mu.Lock()
	err := b.write(buf[start : at+n])
	b.mu.Unlock()
	b.flushEcho()
	return err
}

// write sends whole frames; mu is held. A frame that was cut breaks the
// connection for good.
func (b *Browser) write(p []byte) error {
	if b.broken != nil {
		return b.broken
	}
	if _, err := b.conn.Write(p); err != nil {
		b.broken = err
		return err
	}
	return nil
}

// frame sends a small frame (at most 128 bytes); mu is held.
func (b *Browser) frame(op ws.OpCode, payload []byte) error {
	n := copy(b.small[headroom:], payload)
	start := putHeader(b.small[:], headroom, op, n)
	return b.write(b.small[start : headroom+n])
}

// hello names the tunnel to the browser, which opens on the first instruction
// (guacamole-common-js, Tunnel.js).
func (b *Browser) hello(uuid string) error {
	msg, err := guac.Append(nil, "", uuid)
	if err != nil {
		return err
	}
	b.writes.arm()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.frame(ws.OpText, msg)
}

// pong echoes a tunnel ping, a complete instruction of at most 64 bytes,
// timestamp and all. Of several that wait for a slow browser the newest is
// echoed.
func (b *Browser) pong(raw []byte) {
	b.echoMu.Lock()
	b.echoN = copy(b.echo[:], raw)
	b.echoMu.Unlock()
	b.flushEcho()
}

// flushEcho sends a waiting echo unless somebody is writing: that one calls
// it after.
func (b *Browser) flushEcho() {
	for b.waiting() && b.mu.TryLock() {
		b.echoMu.Lock()
		var msg [64]byte
		n := copy(msg[:], b.echo[:b.echoN])
		b.echoN = 0
		b.echoMu.Unlock()
		if n > 0 {
			b.writes.arm()
			_ = b.frame(ws.OpText, msg[:n]) // the data path meets the same error
		}
		b.mu.Unlock()
	}
}

func (b *Browser) waiting() bool {
	b.echoMu.Lock()
	defer b.echoMu.Unlock()
	return b.echoN > 0
}

// ping sends a WebSocket ping unless a message is being written: then the
// browser is not idle.
func (b *Browser) ping() {
	if !b.mu.TryLock() {
		return
	}
	b.writes.arm()
	_ = b.frame(ws.OpPing, nil) // the data path meets the same error
	b.mu.Unlock()
	b.flushEcho()
}

// next returns the next text message, unmasked in place and valid until the
// following call. It answers control frames itself; errClosed after a close
// frame.
func (b *Browser) next() ([]byte, error) {
	for {
		if b.closed {
			return nil, errClosed
		}
		f, ok, err := parseHeader(b.in[b.from:b.to])
		if err != nil {
			return nil, err
		}
		if !ok || b.to-b.from < f.head+f.length {
			if err := b.fill(); err != nil {
				return nil, err
			}
			continue
		}
		payload := b.in[b.from+f.head : b.from+f.head+f.length]
		b.from += f.head + f.length
		ws.Cipher(payload, f.mask, 0)
		msg, whole, err := b.take(f, payload)
		if err != nil || whole {
			return msg, err
		}
	}
}

// take handles one frame and returns a message when it completes one.
func (b *Browser) take(f frame, payload []byte) (msg []byte, whole bool, err error) {
	switch f.op {
	case ws.OpClose:
		b.closed = true
		return nil, false, errClosed
	case ws.OpPing:
		b.mu.Lock()
		defer b.mu.Unlock()
		b.writes.arm()
		return nil, false, b.frame(ws.OpPong, payload)
	case ws.OpPong:
		return nil, false, nil
	case ws.OpBinary:
		return nil, false, errBinary
	}
	if (f.op == ws.OpContinuation) != b.fragment {
		return nil, false, errFrame
	}
	if f.fin && !b.fragment {
		return payload, true, nil
	}
	if f.op == ws.OpText {
		b.partial = b.partial[:0]
	}
	if len(b.partial)+len(payload) > maxMessage {
		return nil, false, errTooLarge
	}
	b.partial = append(b.partial, payload...)
	b.fragment = !f.fin
	return b.partial, f.fin, nil
}

func (b *Browser) fill() error {
	if b.from > 0 {
		b.to = copy(b.in, b.in[b.from:b.to])
		b.from = 0
	}
	b.reads.arm()
	n, err := b.conn.Read(b.in[b.to:])
	b.to += n
	if n == 0 && err != nil {
		return err
	}
	return nil
}

// goodbye sends what is to be said at the end: an "error" for people, recorded
// like all that the browser gets, and the close frame with the status. Then it
// gives the reader a moment to see the browser's own close frame, so that
// closing does not discard what is on its way (RFC 6455, section 7.1.1). It
// takes at most farewell, also when a writer is stuck.
func (b *Browser) goodbye(end End, output Recorder) {
	b.writes.stop(farewell / 2) // for whoever is writing an echo now
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.reads.stop(farewell)
	if b.broken != nil {
		return
	}
	b.writes.stop(farewell / 2) // our own words get their own time
	if end.Message != "" {
		if msg, err := guac.Append(make([]byte, headroom, 512), "error", end.Message, end.Status.Decimal()); err == nil {
			if output != nil {
				_ = output.Append(msg[headroom:]) // ended already: nothing more to end
			}
			if b.write(msg[putHeader(msg, headroom, ws.OpText, len(msg)-headroom):]) != nil {
				return
			}
		}
	}
	body := ws.NewCloseFrameBody(ws.StatusCode(end.Status.WebSocketCode()), end.Status.Decimal())
	_ = b.frame(ws.OpClose, body)
	b.broken = errClosed // RFC 6455, section 5.5.1: nothing follows a close frame
}

// drain reads on until the browser's close frame has come, its connection has
// ended or goodbye's deadline has passed.
func (b *Browser) drain() {
	for {
		if _, err := b.next(); err != nil {
			if errors.Is(err, errFrame) || errors.Is(err, errTooLarge) {
				_, _ = io.Copy(io.Discard, b.conn)
			}
			return
		}
	}
}

// Refuse ends a WebSocket that never became a session: the browser learns why
// from an "error" instruction and from the close frame.
func (b *Browser) Refuse(uuid string, end End) {
	defer func() { _ = b.conn.Close() }()
	if b.hello(uuid) == nil {
		b.goodbye(end, nil)
		b.drain()
	}
}

// RemoteAddr is the browser's address as this machine sees it.
func (b *Browser) RemoteAddr() string { return b.conn.RemoteAddr().String() }
