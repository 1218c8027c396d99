// Package h2split lets native gRPC and everything else share one plaintext
// port. net/http can carry gRPC (grpc.Server.ServeHTTP), at about twice the
// CPU of grpc-go's own transport. So connections whose first HTTP/2 request is
// gRPC go to grpc-go directly, and all others (HTTP/1.1, WebSockets, Connect
// and gRPC-Web over HTTP/2) to net/http.
//
// A client may wait for the server's SETTINGS before its first request (RFC 9113
// §3.4; grpc-go's client does), so the splitter first sends an empty SETTINGS
// frame, and removes its acknowledgement from what the chosen server reads.
package h2split

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	// sniffTimeout bounds how long a client may take to send its first request.
	sniffTimeout = 10 * time.Second
	// maxSniff bounds the bytes that are read before the end of the first
	// request's headers.
	maxSniff = 24 << 10
	// maxFrame is HTTP/2's initial SETTINGS_MAX_FRAME_SIZE.
	maxFrame = 16 << 10
	// maxAcceptPause bounds the pause after a failed accept, as in net/http.
	maxAcceptPause = time.Second
)

// Splitter accepts connections on one listener and hands them out on two.
type Splitter struct {
	lis  net.Listener
	grpc *side
	rest *side
}

// New returns a splitter of a listener.
func New(lis net.Listener) *Splitter {
	return &Splitter{lis: lis, grpc: newSide(lis.Addr()), rest: newSide(lis.Addr())}
}

// GRPC returns the listener of the connections that speak gRPC over HTTP/2.
func (s *Splitter) GRPC() net.Listener { return s.grpc }

// Rest returns the listener of all other connections.
func (s *Splitter) Rest() net.Listener { return s.rest }

// Run accepts until ctx ends or the listener fails. Then it closes the listener
// and both sides, and waits until no connection is being examined. A failed
// accept that may succeed later (the connection was reset, or the process has no
// file descriptor left) does not stop it: existing connections are served on.
func (s *Splitter) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.lis.Close() })
	defer stop()
	var looking sync.WaitGroup
	defer looking.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer func() { _ = s.grpc.Close() }()
	defer func() { _ = s.rest.Close() }()
	pause := time.Duration(0)
	for {
		conn, err := s.lis.Accept()
		switch {
		case err == nil:
			pause = 0
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return nil
		case passes(err):
			pause = min(max(2*pause, 5*time.Millisecond), maxAcceptPause)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			continue
		default:
			return fmt.Errorf("accept: %w", err)
		}
		looking.Go(func() { s.look(ctx, conn) })
	}
}

// passes reports whether Accept may succeed after this error (accept(2)).
func passes(err error) bool {
	for _, e := range []error{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EPROTO, syscall.EINTR, syscall.EAGAIN,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// look decides to which side a connection goes.
func (s *Splitter) look(ctx context.Context, conn net.Conn) {
	hangUp := context.AfterFunc(ctx, func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(sniffTimeout))
	isGRPC, rest, err := sniff(conn)
	if !hangUp() || err != nil {
		_ = conn.Close() // what the client sent is not HTTP: it gets no answer
		return
	}
	_ = conn.SetDeadline(time.Time{})
	to := s.rest
	if isGRPC {
		to = s.grpc
	}
	to.give(ctx, &replayed{Conn: conn, r: rest})
}

// sniff reads as much as it needs to decide, and returns a reader of everything
// that the server must see, including what was read.
func sniff(conn net.Conn) (isGRPC bool, rest io.Reader, err error) {
	first := make([]byte, len(http2.ClientPreface))
	n, http2Client, err := readPreface(conn, first)
	if err != nil {
		return false, nil, err
	}
	if !http2Client {
		return false, io.MultiReader(bytes.NewReader(first[:n]), conn), nil
	}
	if err := http2.NewFramer(conn, nil).WriteSettings(); err != nil {
		return false, nil, fmt.Errorf("send settings: %w", err)
	}
	isGRPC, seen, acked, err := firstRequest(conn, first)
	if err != nil {
		return false, nil, err
	}
	// A client that sent its request without waiting acknowledges it later.
	return isGRPC, io.MultiReader(bytes.NewReader(seen), &withoutAck{r: conn, done: acked}), nil
}

// readPreface reads until it has the HTTP/2 preface (RFC 9113 §3.4), or bytes that
// differ from it.
func readPreface(r io.Reader, buf []byte) (n int, yes bool, err error) {
	for n < len(buf) {
		m, err := r.Read(buf[n:])
		n += m
		if !strings.HasPrefix(http2.ClientPreface, string(buf[:n])) {
			return n, false, nil
		}
		if err != nil && n < len(buf) {
			return n, false, err
		}
	}
	return n, true, nil
}

// firstRequest reads frames up to the end of the first request's headers.
func firstRequest(r io.Reader, preface []byte) (grpc bool, seen []byte, acked bool, err error) {
	var kept bytes.Buffer
	kept.Write(preface)
	dec := hpack.NewDecoder(4096, func(h hpack.HeaderField) {
		if h.Name == "content-type" {
			grpc = isGRPC(h.Value)
		}
	})
	dec.SetMaxStringLength(maxSniff)
	for kept.Len() < maxSniff {
		raw, hdr, err := readFrame(r)
		if err != nil {
			return false, nil, false, err
		}
		if ownAck(hdr) && !acked {
			acked = true
			continue
		}
		kept.Write(raw)
		if hdr.Type != http2.FrameHeaders && hdr.Type != http2.FrameContinuation {
			continue
		}
		block, end, err := headerBlock(raw, hdr)
		if err != nil {
			return false, nil, false, err
		}
		if _, err := dec.Write(block); err != nil {
			return false, nil, false, fmt.Errorf("headers: %w", err)
		}
		if end {
			return grpc, kept.Bytes(), acked, nil
		}
	}
	return false, nil, false, errors.New("no request within the first 24 KiB")
}

// ownAck reports whether the frame acknowledges the splitter's SETTINGS. It can
// only be that: the server has sent none yet.
func ownAck(hdr http2.FrameHeader) bool {
	return hdr.Type == http2.FrameSettings && hdr.Flags.Has(http2.FlagSettingsAck)
}

// isGRPC reports whether the type is gRPC's, and not gRPC-Web's, which begins
// with the same letters.
func isGRPC(contentType string) bool {
	rest, ok := strings.CutPrefix(contentType, "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

const frameHeader = 9

// readFrame reads one frame, with its header.
func readFrame(r io.Reader) ([]byte, http2.FrameHeader, error) {
	var head [frameHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, http2.FrameHeader{}, err
	}
	hdr, err := http2.ReadFrameHeader(bytes.NewReader(head[:]))
	if err != nil {
		return nil, hdr, err
	}
	if hdr.Length > maxFrame {
		return nil, hdr, fmt.Errorf("a frame of %d bytes before the first request", hdr.Length)
	}
	raw := make([]byte, frameHeader+int(hdr.Length))
	copy(raw, head[:])
	_, err = io.ReadFull(r, raw[frameHeader:])
	return raw, hdr, err
}

// headerBlock returns the field block fragment of a HEADERS or CONTINUATION frame
// (RFC 9113 §6.2, §6.10), and whether the block ends with it.
func headerBlock(raw []byte, hdr http2.FrameHeader) ([]byte, bool, error) {
	frame, err := http2.NewFramer(nil, bytes.NewReader(raw)).ReadFrame()
	switch f := frame.(type) {
	case *http2.HeadersFrame:
		return f.HeaderBlockFragment(), f.HeadersEnded(), nil
	case *http2.ContinuationFrame:
		return f.HeaderBlockFragment(), f.HeadersEnded(), nil
	}
	if err == nil {
		err = fmt.Errorf("unexpected frame %s", hdr.Type)
	} else if hdr.Type == http2.FrameContinuation {
		// The new framer has not seen the HEADERS before this CONTINUATION.
		return raw[frameHeader:], hdr.Flags.Has(http2.FlagContinuationEndHeaders), nil
	}
	return nil, false, err
}
