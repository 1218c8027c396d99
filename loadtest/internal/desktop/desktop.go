// Package desktop is the client side of a desktop session for measurements: a
// broker's client that reads everything as fast as it arrives and draws
// nothing.
package desktop

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/gobwas/ws"

	"github.com/openova-io/bp-relay/services/connection/guac"
)

// Client is the client of one session with a broker. It belongs to one
// goroutine.
type Client struct {
	conn net.Conn
	in   *bufio.Reader
	// framed: the bytes arrive in WebSocket frames.
	framed bool
	buf    []byte
}

// Dial opens a WebSocket of subprotocol "guacamole" at a ws:// URL.
func Dial(ctx context.Context, url string) (*Client, error) {
	d := ws.Dialer{Protocols: []string{"guacamole"}, Timeout: 10 * time.Second}
	conn, br, _, err := d.Dial(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("desktop: %w", err)
	}
	var src io.Reader = conn
	if br != nil { // bytes received with the upgrade's answer
		src = io.MultiReader(io.LimitReader(br, int64(br.Buffered())), conn)
	}
	return &Client{conn: conn, in: bufio.NewReaderSize(src, 256<<10), framed: true}, nil
}

// DialRaw opens a session through a relay that only copies bytes; the client
// itself performs the handshake with guacd.
func DialRaw(ctx context.Context, address string) (*Client, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("desktop: %w", err)
	}
	opened, err := guac.Handshake(conn, guac.Opening{Select: "vnc", Screen: guac.Screen{Width: 1280, Height: 720, DPI: 96, Image: []string{"image/png"}}})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("desktop: %w", err), conn.Close())
	}
	src := io.MultiReader(bytes.NewReader(opened.Rest), conn)
	return &Client{conn: conn, in: bufio.NewReaderSize(src, 256<<10)}, nil
}

// Close closes the connection without a disconnect instruction.
func (c *Client) Close() error { return c.conn.Close() }

// Deadline sets the deadline of all reads.
func (c *Client) Deadline(at time.Time) error { return c.conn.SetReadDeadline(at) }

// Next returns the next bytes of the session, valid until the next call; io.EOF
// if the broker has closed.
func (c *Client) Next() ([]byte, error) {
	if !c.framed {
		if _, err := c.in.Peek(1); err != nil {
			return nil, err
		}
		n := c.in.Buffered()
		c.buf = slices.Grow(c.buf[:0], n)[:n]
		_, err := io.ReadFull(c.in, c.buf)
		return c.buf, err
	}
	for {
		h, err := ws.ReadHeader(c.in)
		if err != nil {
			return nil, err
		}
		if h.Length > 16<<20 {
			return nil, fmt.Errorf("desktop: frame of %d bytes", h.Length)
		}
		if int64(cap(c.buf)) < h.Length {
			c.buf = make([]byte, h.Length)
		}
		c.buf = c.buf[:h.Length]
		if _, err := io.ReadFull(c.in, c.buf); err != nil {
			return nil, err
		}
		switch h.OpCode {
		case ws.OpText, ws.OpContinuation:
			return c.buf, nil
		case ws.OpClose:
			return nil, io.EOF
		default: // pings, which no broker here expects to be answered
		}
	}
}

// Until reads everything up to and including the bytes of last, and returns the
// number of bytes read.
func (c *Client) Until(last []byte) (int64, error) {
	var n int64
	tail := make([]byte, 0, 2*len(last))
	for {
		p, err := c.Next()
		if err != nil {
			return n, fmt.Errorf("desktop: after %d bytes: %w", n, err)
		}
		n += int64(len(p))
		tail = append(tail, p[max(0, len(p)-len(last)):]...)
		tail = tail[max(0, len(tail)-len(last)):]
		if bytes.Equal(tail, last) {
			return n, nil
		}
	}
}

// Instructions calls fn with each complete instruction until it returns false.
func (c *Client) Instructions(fn func(in *guac.Instruction) bool) error {
	var scan guac.Scanner
	var in guac.Instruction
	var rest []byte
	for {
		p, err := c.Next()
		if err != nil {
			return fmt.Errorf("desktop: %w", err)
		}
		for len(p) > 0 {
			n, done, err := scan.Next(p)
			if err != nil {
				return fmt.Errorf("desktop: %w", err)
			}
			rest, p = append(rest, p[:n]...), p[n:]
			if !done {
				continue
			}
			if err := in.Parse(rest); err != nil {
				return fmt.Errorf("desktop: %w", err)
			}
			if !fn(&in) {
				return nil
			}
			rest = rest[:0]
		}
	}
}
