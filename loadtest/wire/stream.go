package wire

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// streamQueue bounds the media that waits for a TURN server's TCP window, in
// bytes: two seconds of 4 Mbit/s.
const streamQueue = 1 << 20

// Stream is a connection to a TURN server over TCP or TLS: it keeps media out
// of what is read, and sends media without waiting.
type Stream struct {
	*net.TCPConn // for what pion asks of a TCP connection beyond reading and writing
	conn         net.Conn
	r            *Reactor
	sink         Sink
	in           *Impairment
	channel      channelTable

	// Reading, by one goroutine.
	raw   []byte // read and not yet sorted
	ready []byte // sorted, for pion
	pkts  []Packet

	write sync.Mutex // one frame at a time
	mu    sync.Mutex
	queue []byte
	spare []byte
	some  chan struct{}
	done  chan struct{}
	ended sync.WaitGroup
	once  sync.Once
}

// dialStream connects; with a TLS config the TURN server is spoken to over TLS.
func dialStream(r *Reactor, dial func() (*net.TCPConn, error), secure *tls.Config, sink Sink, in *Impairment) (*Stream, error) {
	tcp, err := dial()
	if err != nil {
		return nil, err
	}
	s := &Stream{TCPConn: tcp, conn: tcp, r: r, sink: sink, in: in, raw: make([]byte, 0, 64<<10), some: make(chan struct{}, 1), done: make(chan struct{})}
	if secure != nil {
		t := tls.Client(tcp, secure)
		if err := errors.Join(t.SetDeadline(time.Now().Add(10*time.Second)), t.Handshake(), t.SetDeadline(time.Time{})); err != nil { //nolint:noctx // the deadline bounds it
			return nil, errors.Join(fmt.Errorf("TLS with the TURN server %s: %w", tcp.RemoteAddr(), err), tcp.Close())
		}
		s.conn = t
	}
	s.ended.Go(s.pump)
	return s, nil
}

// Read gives pion whole STUN messages, and ChannelData that is not media.
func (s *Stream) Read(p []byte) (int, error) {
	for len(s.ready) == 0 {
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.ready)
	s.ready = s.ready[:copy(s.ready, s.ready[n:])]
	return n, nil
}

func (s *Stream) fill() error {
	if cap(s.raw)-len(s.raw) < slotSize {
		return errors.New("wire: a TURN server sent a frame that is longer than any")
	}
	n, err := s.conn.Read(s.raw[len(s.raw):cap(s.raw)])
	if err != nil {
		return err
	}
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
			s.ready = append(s.ready, rest[:size]...)
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
		n = len(b)
	}
	return n, n <= len(b)
}

// Write sends a message of pion's.
func (s *Stream) Write(p []byte) (int, error) {
	s.channel.sent(p)
	s.write.Lock()
	defer s.write.Unlock()
	return s.conn.Write(p)
}

// errStreamFull: when the TURN server's TCP window stays closed.
var errStreamFull = errors.New("wire: the TURN connection does not take more")

// media queues whole frames; it does not wait.
func (s *Stream) media(p []byte) error {
	s.mu.Lock()
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
		_, err := s.conn.Write(p)
		s.write.Unlock()
		if err != nil {
			return // the reading side tells pion
		}
		s.mu.Lock()
		s.spare = p
		s.mu.Unlock()
	}
}

// Close ends it and waits for its writer.
func (s *Stream) Close() error {
	var err error
	s.once.Do(func() {
		close(s.done)
		err = s.TCPConn.Close() // not TLS's goodbye, which may wait
		s.ended.Wait()
	})
	return err
}
