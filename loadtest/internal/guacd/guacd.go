// Package guacd is a synthetic guacd for measurements: it answers a broker's
// handshake as guacd does and then sends what the measurement wants, at the
// pace it wants. There is no desktop behind it, so every compared broker gets
// the same bytes at the same times. Where a real desktop matters (tests, the
// demo), the real guacd runs instead.
package guacd

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/openova-io/bp-relay/services/connection/guac"
)

// handshakeTime bounds a broker's handshake.
const handshakeTime = 10 * time.Second

// Server listens for brokers.
type Server struct{ lis net.Listener }

// Listen listens on a free loopback port.
func Listen(ctx context.Context) (*Server, error) {
	lis, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("guacd: %w", err)
	}
	return &Server{lis: lis}, nil
}

// Address returns host:port.
func (s *Server) Address() string { return s.lis.Addr().String() }

// Close stops listening; the sessions continue.
func (s *Server) Close() error { return s.lis.Close() }

// Session is one broker's connection after the handshake.
type Session struct {
	conn    net.Conn
	drained chan struct{}
}

// Accept waits for the next broker and answers its handshake. From then on,
// what the broker sends (nops, acks, keystrokes) is discarded.
func (s *Server) Accept(ctx context.Context) (*Session, error) {
	stop := context.AfterFunc(ctx, func() { _ = s.lis.Close() })
	conn, err := s.lis.Accept()
	if !stop() {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("guacd: %w", err)
	}
	if err := handshake(conn); err != nil {
		return nil, errors.Join(fmt.Errorf("guacd: handshake: %w", err), conn.Close())
	}
	session := &Session{conn: conn, drained: make(chan struct{})}
	go func() {
		defer close(session.drained)
		_, _ = io.Copy(io.Discard, conn) // until either side closes
	}()
	return session, nil
}

// handshake plays guacd's side of the handshake (src/guacd/connection.c,
// libguac/user-handshake.c): "args" for "select", "ready" for "connect".
func handshake(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(handshakeTime)); err != nil {
		return err
	}
	in := bufio.NewReaderSize(conn, 16<<10)
	for {
		text, err := in.ReadBytes(';') // no value of this handshake contains a semicolon
		if err != nil {
			return err
		}
		var answer []byte
		switch {
		case bytes.HasPrefix(text, []byte("6.select,")):
			answer, err = guac.Append(nil, "args", "VERSION_1_1_0", "hostname", "port")
		case bytes.HasPrefix(text, []byte("7.connect,")):
			answer, err = guac.Append(nil, "ready", "$01234567-89ab-cdef-0123-456789abcdef")
		default:
			continue
		}
		if err != nil {
			return err
		}
		if _, err := conn.Write(answer); err != nil {
			return err
		}
		if bytes.HasPrefix(text, []byte("7.connect,")) {
			return conn.SetDeadline(time.Time{})
		}
	}
}

// flush is the size of guacd's writes: its socket's output buffer
// (GUAC_SOCKET_OUTPUT_BUFFER_SIZE in libguac/socket-constants.h).
const flush = 8192

// Write sends p in writes of guacd's size.
func (s *Session) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		m, err := s.conn.Write(p[n:min(len(p), n+flush)])
		n += m
		if err != nil {
			return n, fmt.Errorf("guacd: %w", err)
		}
	}
	return n, nil
}

// Close ends the session and waits for its goroutine.
func (s *Session) Close() error {
	err := s.conn.Close()
	<-s.drained
	return err
}

// Frame returns one screen update of about size bytes: an image stream of blobs
// as guacd sends them (at most 6048 bytes each, base64 of 8064 characters), and
// the sync that ends it.
func Frame(size int) ([]byte, error) {
	const blob = 8064
	value := bytes.Repeat([]byte("QUJD"), blob/4)
	out, err := guac.Append(nil, "img", "1", "14", "0", "image/png", "0", "0")
	for err == nil && len(out)+blob < size {
		out, err = guac.Append(out, "blob", "1", string(value))
	}
	if err == nil {
		out, err = guac.Append(out, "end", "1")
	}
	if err == nil {
		out, err = guac.Append(out, "sync", "7000")
	}
	if err != nil {
		return nil, fmt.Errorf("guacd: frame: %w", err)
	}
	return out, nil
}

// Cut returns the total length of the first whole instructions of a stream, at
// least one, that have about n bytes together.
func Cut(stream []byte, n int) (int, error) {
	var scan guac.Scanner
	at := 0
	for at < len(stream) && (at < n || !scan.Between()) {
		used, _, err := scan.Next(stream[at:])
		if err != nil {
			return 0, fmt.Errorf("guacd: %w", err)
		}
		at += used
	}
	return at, nil
}

// Stamp appends a small screen update that carries a time: a rectangle whose
// width is the nanoseconds since a start.
func Stamp(dst []byte, at time.Duration) ([]byte, error) {
	return guac.Append(dst, "rect", "0", "0", "0", strconv.FormatInt(at.Nanoseconds(), 10), "1")
}

// StampTime reads what Stamp wrote.
func StampTime(in *guac.Instruction) (time.Duration, bool) {
	if string(in.Opcode()) != "rect" || in.Args() != 5 {
		return 0, false
	}
	n, ok := guac.Int(in.Arg(3))
	return time.Duration(n), ok
}

// Last returns the end of a measurement: a sync with a time that no other sync
// has.
func Last() []byte { return []byte("4.sync,13.9999999999999;") }
