package peer

import (
	"net"
	"sync"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/transport/v4/packetio"
)

// endpoint is DTLS's share of an ICE connection, as a net.PacketConn.
type endpoint struct {
	conn *ice.Conn
	buf  *packetio.Buffer
	once sync.Once
}

func newEndpoint(c *ice.Conn) *endpoint {
	e := &endpoint{conn: c, buf: packetio.NewBuffer()}
	e.buf.SetLimitSize(1 << 20)
	return e
}

func (e *endpoint) put(b []byte) { _, _ = e.buf.Write(b) } // full or closed: DTLS and SCTP send again
func (e *endpoint) end()         { e.once.Do(func() { _ = e.buf.Close() }) }

// ReadFrom implements net.PacketConn.
func (e *endpoint) ReadFrom(p []byte) (int, net.Addr, error) {
	n, err := e.buf.Read(p)
	return n, e.conn.RemoteAddr(), err
}

// WriteTo implements net.PacketConn.
func (e *endpoint) WriteTo(p []byte, _ net.Addr) (int, error) { return e.conn.Write(p) }

// Close ends the endpoint, not the connection.
func (e *endpoint) Close() error {
	e.end()
	return nil
}

// LocalAddr implements net.PacketConn.
func (e *endpoint) LocalAddr() net.Addr { return e.conn.LocalAddr() }

// SetDeadline implements net.PacketConn.
func (e *endpoint) SetDeadline(t time.Time) error { return e.buf.SetReadDeadline(t) }

// SetReadDeadline implements net.PacketConn.
func (e *endpoint) SetReadDeadline(t time.Time) error { return e.buf.SetReadDeadline(t) }

// SetWriteDeadline implements net.PacketConn.
func (e *endpoint) SetWriteDeadline(time.Time) error { return nil }
