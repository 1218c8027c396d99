package rtc

import (
	"net"
	"sync"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/transport/v4/packetio"
)

// maxHandshake bounds the DTLS records, in bytes, that wait to be read.
const maxHandshake = 1 << 20

// endpoint is DTLS's share of an ICE connection (RFC 7983), as a net.PacketConn.
type endpoint struct {
	conn *ice.Conn
	buf  *packetio.Buffer
	once sync.Once
}

func newEndpoint(c *ice.Conn) *endpoint {
	e := &endpoint{conn: c, buf: packetio.NewBuffer()}
	e.buf.SetLimitSize(maxHandshake)
	return e
}

// put queues a received DTLS record. If the queue is full or closed, the record is
// dropped: DTLS and SCTP retransmit.
func (e *endpoint) put(b []byte) { _, _ = e.buf.Write(b) }

// ReadFrom implements net.PacketConn.
func (e *endpoint) ReadFrom(p []byte) (int, net.Addr, error) {
	n, err := e.buf.Read(p)
	return n, e.conn.RemoteAddr(), err
}

// WriteTo implements net.PacketConn.
func (e *endpoint) WriteTo(p []byte, _ net.Addr) (int, error) { return e.conn.Write(p) }

// Close closes the endpoint, not the ICE connection.
func (e *endpoint) Close() error {
	e.once.Do(func() { _ = e.buf.Close() })
	return nil
}

// LocalAddr implements net.PacketConn.
func (e *endpoint) LocalAddr() net.Addr { return e.conn.LocalAddr() }

// SetDeadline implements net.PacketConn.
func (e *endpoint) SetDeadline(t time.Time) error { return e.buf.SetReadDeadline(t) }

// SetReadDeadline implements net.PacketConn.
func (e *endpoint) SetReadDeadline(t time.Time) error { return e.buf.SetReadDeadline(t) }

// SetWriteDeadline implements net.PacketConn; a write does not block.
func (e *endpoint) SetWriteDeadline(time.Time) error { return nil }
