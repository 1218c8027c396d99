package h2split

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"

	"golang.org/x/net/http2"
)

// side is a listener that gets its connections from the splitter.
type side struct {
	addr   net.Addr
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newSide(addr net.Addr) *side {
	return &side{addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
}

// give hands a connection to Accept, or closes it if the side or ctx has ended.
func (s *side) give(ctx context.Context, c net.Conn) {
	select {
	case s.conns <- c:
		return
	case <-s.closed:
	case <-ctx.Done():
	}
	_ = c.Close()
}

// Accept implements net.Listener.
func (s *side) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener: it ends Accept, not the splitter.
func (s *side) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// Addr implements net.Listener.
func (s *side) Addr() net.Addr { return s.addr }

// replayed is a connection whose first bytes were read already and come again.
type replayed struct {
	net.Conn
	r io.Reader
}

// Read implements net.Conn.
func (r *replayed) Read(p []byte) (int, error) { return r.r.Read(p) }

// withoutAck removes the first acknowledgement of SETTINGS from a stream of
// frames.
type withoutAck struct {
	r    io.Reader
	done bool
	left int    // bytes of the current frame that are not read yet
	head []byte // bytes of the current frame's header that are not read yet
}

// Read implements io.Reader.
func (w *withoutAck) Read(p []byte) (int, error) {
	switch {
	case len(p) == 0:
		return 0, nil
	case len(w.head) > 0:
		n := copy(p, w.head)
		w.head = w.head[n:]
		return n, nil
	case w.left > 0:
		n, err := w.r.Read(p[:min(len(p), w.left)])
		w.left -= n
		return n, err
	case w.done:
		return w.r.Read(p)
	}
	var head [frameHeader]byte
	if _, err := io.ReadFull(w.r, head[:]); err != nil {
		return 0, err
	}
	hdr, err := http2.ReadFrameHeader(bytes.NewReader(head[:]))
	if err != nil {
		return 0, err
	}
	if w.done = ownAck(hdr); !w.done {
		w.head, w.left = head[:], int(hdr.Length)
	}
	return w.Read(p)
}
