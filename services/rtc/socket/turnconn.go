package socket

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// streamQueue bounds the media, in bytes, that waits for a TURN server's TCP window: two
// seconds of 4 Mbit/s.
const streamQueue = 1 << 20

// turnConn is a connection to a TURN server over TCP or TLS (RFC 8656 section 2.1). It
// passes received media to the sink instead of ReadFrom, and sends media without
// blocking. To pion it looks like a UDP socket: see NetConfig.TURNServer.
type turnConn struct {
	conn    net.Conn
	tcp     *net.TCPConn
	r       *Reactor
	sink    Sink
	channel channelTable
	heard   atomic.Bool // a message other than media arrived

	// Only the goroutine that reads uses these.
	raw   []byte // read and not yet sorted
	ready []byte // messages that ReadFrom returns next
	sizes []int  // of the messages in ready
	pkts  []Packet

	write sync.Mutex // held during a write to conn
	mu    sync.Mutex
	queue []byte        // media to be written
	spare []byte        // the previous queue's memory
	err   error         // why nothing can be sent any more
	some  chan struct{} // the queue is not empty
	done  chan struct{} // closed by Close
	wg    sync.WaitGroup
	once  sync.Once
}

// dialWithin bounds connecting to a TURN server, TLS handshake included.
const dialWithin = 10 * time.Second

// dialTURN connects to a TURN server: over TLS if secure is not nil.
func dialTURN(r *Reactor, local netip.Addr, server string, secure *tls.Config, sink Sink) (*turnConn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dialWithin)
	defer cancel()
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: local.AsSlice()}}
	c, err := d.DialContext(ctx, "tcp", server)
	if err != nil {
		return nil, fmt.Errorf("TURN server: %w", err)
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("TURN server %s: not TCP", server), c.Close())
	}
	s := &turnConn{conn: tcp, tcp: tcp, r: r, sink: sink, raw: make([]byte, 0, 64<<10), some: make(chan struct{}, 1), done: make(chan struct{})}
	if secure != nil {
		t := tls.Client(tcp, secure)
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("TLS with the TURN server %s: %w", server, err), tcp.Close())
		}
		s.conn = t
	}
	s.wg.Go(s.pump)
	return s, nil
}

// ReadFrom returns one STUN message, or one ChannelData message without media.
func (s *turnConn) ReadFrom(p []byte) (int, net.Addr, error) {
	for len(s.sizes) == 0 {
		s.ready = s.ready[:0]
		if err := s.fill(); err != nil {
			return 0, nil, err
		}
	}
	size := s.sizes[0]
	n := copy(p, s.ready[:size])
	s.ready, s.sizes = s.ready[size:], s.sizes[1:]
	return n, s.conn.RemoteAddr(), nil
}

// fill reads from the connection and sorts all whole messages.
func (s *turnConn) fill() error {
	if cap(s.raw)-len(s.raw) < slotSize {
		return errors.New("socket: the TURN server sent a message that is too long")
	}
	n, err := s.conn.Read(s.raw[len(s.raw):cap(s.raw)])
	if n == 0 {
		return err
	}
	// TLS may return bytes together with an error; the next call returns it again.
	s.r.Reads.Add(1)
	now := time.Now().UnixNano()
	s.raw = s.raw[:len(s.raw)+n]
	rest := s.raw
	s.pkts = s.pkts[:0]
	for {
		size, ok := frame(rest)
		if !ok {
			break
		}
		if rtp, is := media(rest[:size]); is {
			s.pkts = append(s.pkts, Packet{Bytes: rtp, At: now})
		} else {
			s.r.Control.Add(1)
			s.heard.Store(true)
			s.ready = append(s.ready, rest[:size]...)
			s.sizes = append(s.sizes, size)
		}
		rest = rest[size:]
	}
	if len(s.pkts) > 0 {
		s.r.Media.Add(int64(len(s.pkts)))
		if s.sink != nil {
			s.sink.RTP(s.pkts)
		}
	}
	s.raw = s.raw[:copy(s.raw, rest)]
	return nil
}

// frame returns the length of the first message in b with its padding (RFC 8656 section
// 12.5, RFC 8489 section 5), and whether b holds all of it. Malformed bytes count as one
// message, which pion refuses.
func frame(b []byte) (int, bool) {
	if len(b) < channelHeader {
		return 0, false
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	switch {
	case b[0] < 0x40:
		n += 20 // STUN's header
	case b[0] <= 0x4f:
		n = (channelHeader + n + 3) &^ 3
	default:
		n = len(b)
	}
	return n, n <= len(b)
}

// WriteTo sends one of pion's messages to the TURN server.
func (s *turnConn) WriteTo(p []byte, _ net.Addr) (int, error) {
	s.channel.sent(p, netip.AddrPort{})
	s.write.Lock()
	defer s.write.Unlock()
	return s.put(p)
}

// writeWithin bounds a write: a TURN server that stops reading must block neither the
// sender nor Close.
const writeWithin = 5 * time.Second

// put writes to the connection; the caller holds write. It closes the connection after
// an error, since part of a message may have been written.
func (s *turnConn) put(p []byte) (int, error) {
	err := s.tcp.SetWriteDeadline(time.Now().Add(writeWithin))
	if err == nil {
		var n int
		if n, err = s.conn.Write(p); err == nil {
			return n, nil
		}
	}
	return 0, errors.Join(fmt.Errorf("TURN server: %w", err), s.tcp.Close())
}

// LocalAddr returns the connection's local address as a UDP address, which ICE expects.
func (s *turnConn) LocalAddr() net.Addr {
	a, ok := s.conn.LocalAddr().(*net.TCPAddr)
	if !ok {
		return &net.UDPAddr{}
	}
	return &net.UDPAddr{IP: a.IP, Port: a.Port}
}

// SetDeadline implements net.PacketConn, for reading.
func (s *turnConn) SetDeadline(t time.Time) error { return s.conn.SetReadDeadline(t) }

// SetReadDeadline implements net.PacketConn.
func (s *turnConn) SetReadDeadline(t time.Time) error { return s.conn.SetReadDeadline(t) }

// SetWriteDeadline does nothing: each write is bounded by writeWithin.
func (s *turnConn) SetWriteDeadline(time.Time) error { return nil }

// errStreamFull means that the TURN server's TCP window has been closed for too long.
var errStreamFull = errors.New("socket: the queue to the TURN server is full")

// media queues whole messages; it does not block.
func (s *turnConn) media(p []byte) error {
	s.mu.Lock()
	if err := s.err; err != nil {
		s.mu.Unlock()
		return err
	}
	if len(s.queue)+len(p) > streamQueue {
		s.mu.Unlock()
		return errStreamFull
	}
	s.queue = append(s.queue, p...)
	s.mu.Unlock()
	select {
	case s.some <- struct{}{}:
	default:
	}
	return nil
}

// pump writes what media queues, until Close or an error.
func (s *turnConn) pump() {
	for {
		select {
		case <-s.some:
		case <-s.done:
			return
		}
		s.mu.Lock()
		p := s.queue
		s.queue = s.spare[:0]
		s.mu.Unlock()
		s.write.Lock()
		_, err := s.put(p)
		s.write.Unlock()
		s.mu.Lock()
		if err != nil { // the reader passes it to pion
			s.err = err
			s.mu.Unlock()
			return
		}
		s.spare = p
		s.mu.Unlock()
	}
}

// Close closes the connection and waits for its writer.
func (s *turnConn) Close() error {
	var err error
	s.once.Do(func() {
		close(s.done)
		s.mu.Lock()
		s.err = net.ErrClosed
		s.mu.Unlock()
		err = s.tcp.Close() // without TLS's close_notify, which may block
		s.wg.Wait()
	})
	return err
}
