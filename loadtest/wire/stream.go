package wire

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

// streamQueue bounds the media that waits for a TURN server's TCP window, in
// bytes: two seconds of 4 Mbit/s.
const streamQueue = 1 << 20

// Stream is a connection to a TURN server over TCP or TLS: it keeps media out
// of what is read, and sends media without waiting. It looks like a UDP socket
// to who holds it: pion's ICE (v4.2) pairs no relay candidate of a TURN server
// over TCP with a peer's UDP candidates.
type Stream struct {
	conn    net.Conn
	tcp     *net.TCPConn
	r       *Reactor
	sink    Sink
	in      *Impairment
	channel channelTable
	heard   atomic.Bool // something that is not media

	// Reading, by one goroutine.
	raw   []byte // read and not yet sorted
	ready []byte // sorted messages, for pion
	sizes []int
	pkts  []Packet

	write sync.Mutex // one frame at a time
	mu    sync.Mutex
	queue []byte
	spare []byte
	ill   error // why nothing is sent any more
	some  chan struct{}
	done  chan struct{}
	ended sync.WaitGroup
	once  sync.Once
}

// dialWithin bounds the connection to a TURN server, TLS included.
const dialWithin = 10 * time.Second

// dialStream connects; with a TLS config the TURN server is spoken to over TLS.
func dialStream(r *Reactor, local netip.Addr, server string, secure *tls.Config, sink Sink, in *Impairment) (*Stream, error) {
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
	s := &Stream{conn: tcp, tcp: tcp, r: r, sink: sink, in: in, raw: make([]byte, 0, 64<<10), some: make(chan struct{}, 1), done: make(chan struct{})}
	if secure != nil {
		t := tls.Client(tcp, secure)
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("TLS with the TURN server %s: %w", server, err), tcp.Close())
		}
		s.conn = t
	}
	s.ended.Go(s.pump)
	return s, nil
}

// ReadFrom gives pion one STUN message, or ChannelData that is not media.
func (s *Stream) ReadFrom(p []byte) (int, net.Addr, error) {
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

func (s *Stream) fill() error {
	if cap(s.raw)-len(s.raw) < slotSize {
		return errors.New("wire: a TURN server sent a frame that is longer than any")
	}
	n, err := s.conn.Read(s.raw[len(s.raw):cap(s.raw)])
	if n == 0 {
		return err
	}
	// With an error there may be bytes, too (TLS); the next call has it again.
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
		if s.in != nil {
			s.in.receive(s.pkts, s.sink)
		} else if s.sink != nil {
			s.sink.RTP(s.pkts)
		}
	}
	s.raw = s.raw[:copy(s.raw, rest)]
	return nil
}

// frame is the length of the first message in a TURN stream, with its padding
// (RFC 8656 section 12.5, RFC 8489 section 5). What is neither goes to pion as it is.
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
		n = len(b) // pion refuses it
	}
	return n, n <= len(b)
}

// WriteTo sends a message of pion's to the TURN server.
func (s *Stream) WriteTo(p []byte, _ net.Addr) (int, error) {
	s.channel.sent(p, netip.AddrPort{})
	s.write.Lock()
	defer s.write.Unlock()
	return s.put(p)
}

// writeWithin bounds a write: a TURN server that takes nothing any more, but
// keeps the connection, must not hold up who sends, nor the end of a run.
const writeWithin = 5 * time.Second

// put writes to the connection; whoever calls holds write. What was cut off
// cannot be mended: the connection ends.
func (s *Stream) put(p []byte) (int, error) {
	err := s.tcp.SetWriteDeadline(time.Now().Add(writeWithin))
	if err == nil {
		var n int
		if n, err = s.conn.Write(p); err == nil {
			return n, nil
		}
	}
	return 0, errors.Join(fmt.Errorf("TURN server: %w", err), s.tcp.Close())
}

// LocalAddr is the connection's, in the form that ICE wants.
func (s *Stream) LocalAddr() net.Addr {
	a, ok := s.conn.LocalAddr().(*net.TCPAddr)
	if !ok {
		return &net.UDPAddr{}
	}
	return &net.UDPAddr{IP: a.IP, Port: a.Port}
}

// SetDeadline implements net.PacketConn, for reading.
func (s *Stream) SetDeadline(t time.Time) error { return s.conn.SetReadDeadline(t) }

// SetReadDeadline implements net.PacketConn.
func (s *Stream) SetReadDeadline(t time.Time) error { return s.conn.SetReadDeadline(t) }

// SetWriteDeadline does nothing: writes have one of their own.
func (s *Stream) SetWriteDeadline(time.Time) error { return nil }

// errStreamFull: when the TURN server's TCP window stays closed.
var errStreamFull = errors.New("wire: the TURN connection does not take more")

// media queues whole frames; it does not wait.
func (s *Stream) media(p []byte) error {
	s.mu.Lock()
	if err := s.ill; err != nil {
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

// pump writes what is queued, until Close.
func (s *Stream) pump() {
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
		if err != nil { // the reading side tells pion
			s.ill = err
			s.mu.Unlock()
			return
		}
		s.spare = p
		s.mu.Unlock()
	}
}

// Close ends it and waits for its writer.
func (s *Stream) Close() error {
	var err error
	s.once.Do(func() {
		close(s.done)
		s.mu.Lock()
		s.ill = net.ErrClosed
		s.mu.Unlock()
		err = s.tcp.Close() // not TLS's goodbye, which may wait
		s.ended.Wait()
	})
	return err
}
