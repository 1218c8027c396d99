package socket

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"testing"
	"testing/iotest"
	"time"

	"github.com/pion/stun/v3"
	"github.com/stretchr/testify/require"

	"github.com/pion/transport/v4/stdnet"
)

// dialled is a turnConn, and the TURN server's end of it.
func dialled(t testing.TB, r *Reactor, sink Sink) (*turnConn, *Net, net.Conn) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	host, err := stdnet.NewNet()
	require.NoError(t, err)
	n := r.Net(NetConfig{Host: host, Local: loopback, Sink: sink, TURNServer: l.Addr().String()})
	c, err := n.ListenPacket("udp4", "0.0.0.0:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	server, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Close() })
	require.Equal(t, "tcp", n.TURNTransport())
	require.NoError(t, n.Err())
	return c.(*turnConn), n, server
}

// conversation is what a TURN server may send, what of it pion gets, and the
// media.
func conversation(t testing.TB) (all []byte, control, rtp [][]byte) {
	m, err := stun.Build(stun.TransactionID, stun.BindingSuccess, stun.NewSoftware("a server"))
	require.NoError(t, err)
	dtls := channelData(0x4000, []byte{22, 0xfe, 0xfd, 1, 2}, true)
	for i, size := range []int{17, 18, 19, 20} {
		rtp = append(rtp, packet(i, size))
	}
	all = append(all, m.Raw...)
	all = append(all, channelData(0x4000, rtp[0], true)...)
	all = append(all, dtls...)
	all = append(all, channelData(0x4fff, rtp[1], true)...)
	all = append(all, channelData(0x4000, rtp[2], true)...)
	all = append(all, m.Raw...)
	all = append(all, channelData(0x4000, rtp[3], true)...)
	all = append(all, m.Raw...)
	return all, [][]byte{m.Raw, dtls, m.Raw, m.Raw}, rtp
}

func check(t *testing.T, s *turnConn, sink *taken) {
	t.Helper()
	_, control, rtp := conversation(t)
	for i := range control {
		b := make([]byte, 2048)
		n, from, err := s.ReadFrom(b)
		require.NoError(t, err)
		require.Len(t, b[:n], len(control[i]))
		require.Equal(t, control[i][:2], b[:2])
		require.Equal(t, s.conn.RemoteAddr(), from)
	}
	got := sink.all()
	require.Len(t, got, len(rtp))
	for i := range rtp {
		require.Equal(t, rtp[i], got[i].Bytes)
		require.False(t, got[i].Kernel)
		require.InDelta(t, time.Now().UnixNano(), got[i].At, float64(patience))
	}
}

// chunks is a connection whose reads end where the test says.
type chunks struct {
	net.Conn
	parts [][]byte
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.parts) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.parts[0])
	c.parts = c.parts[1:]
	return n, nil
}

// TestStreamSplits: messages are whole wherever reads split the stream.
func TestStreamSplits(t *testing.T) {
	all, control, rtp := conversation(t)
	r := stalled(t, 0)
	real, _, _ := dialled(t, r, nil)
	for at := range len(all) {
		sink := new(taken)
		conn := &chunks{real.conn, [][]byte{all[:at], all[at:]}}
		if at == 0 {
			conn.parts = conn.parts[1:]
		}
		s := &turnConn{conn: conn, r: r, sink: sink, raw: make([]byte, 0, 64<<10)}
		for i := range control {
			b := make([]byte, 2048)
			n, _, err := s.ReadFrom(b)
			require.NoError(t, err)
			require.Len(t, b[:n], len(control[i]), "cut at %d", at)
		}
		require.Len(t, sink.all(), len(rtp), "cut at %d", at)
		_, _, err := s.ReadFrom(nil)
		require.ErrorIs(t, err, io.EOF)
	}
}

// TestStreamBytes: byte by byte over TCP.
func TestStreamBytes(t *testing.T) {
	sink := new(taken)
	r := stalled(t, 0)
	s, _, server := dialled(t, r, sink)
	all, control, rtp := conversation(t)
	go func() { _, _ = io.Copy(server, iotest.OneByteReader(&readOnly{all})) }()
	require.NoError(t, s.SetReadDeadline(time.Now().Add(patience)))
	check(t, s, sink)
	require.EqualValues(t, len(control), r.Control.Load())
	require.EqualValues(t, len(rtp), r.Media.Load())
	require.NoError(t, s.SetDeadline(time.Now().Add(-time.Second)))
	_, _, err := s.ReadFrom(make([]byte, 10))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	n, err := s.WriteTo([]byte{1, 2, 3, 4}, nil)
	require.NoError(t, err, "deadlines of writes are its own")
	require.Equal(t, 4, n)
}

// TestStreamServerStopsReading: who writes is not held up for ever, and nor is
// Close.
func TestStreamServerStopsReading(t *testing.T) {
	t.Parallel()
	r := stalled(t, 0)
	s, _, _ := dialled(t, r, nil)
	begin := time.Now()
	var err error
	for p := make([]byte, 64<<10); err == nil && time.Since(begin) < patience; {
		_, err = s.WriteTo(p, nil)
	}
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.Less(t, time.Since(begin), 3*writeWithin)
	_, err = s.WriteTo([]byte{1, 2, 3, 4}, nil)
	require.Error(t, err)
}

// readOnly hides what bytes.Reader has beyond Read, so that io.Copy reads.
type readOnly struct{ b []byte }

func (r *readOnly) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.b)
	r.b = r.b[n:]
	return n, nil
}

// TestStreamOverlong: a message that is too long is an error.
func TestStreamOverlong(t *testing.T) {
	s, _, server := dialled(t, stalled(t, 0), nil)
	go func() { _, _ = server.Write(channelData(0x4000, make([]byte, 65535), false)) }()
	require.NoError(t, s.SetReadDeadline(time.Now().Add(patience)))
	for range 2 { // it stays so
		_, _, err := s.ReadFrom(make([]byte, 2048))
		require.ErrorContains(t, err, "message that is too long")
	}
}

// TestStreamSends: media goes out in whole, padded frames, between pion's
// messages; the channel is bound when pion uses it.
func TestStreamSends(t *testing.T) {
	r := stalled(t, 0)
	s, n, server := dialled(t, r, nil)
	peer := &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 4000}
	_, err := n.Relayed(peer)
	require.ErrorIs(t, err, ErrNotBound)
	bind := channelBindRequest(t, 0x4001, peer)
	dtls := channelData(0x4001, []byte{22, 1, 2, 3}, true)
	for _, b := range [][]byte{bind, dtls} {
		_, err = s.WriteTo(b, nil)
		require.NoError(t, err)
	}
	d, err := n.Relayed(peer)
	require.NoError(t, err)
	b := new(Burst)
	pkts := sizes(100, 101, 102, 103, 1200)
	fill(t, b, d, pkts)
	failed, err := b.Send(d)
	require.NoError(t, err)
	require.Empty(t, failed)
	want := append(append([]byte(nil), bind...), dtls...)
	for _, p := range pkts {
		want = append(want, channelData(0x4001, p, true)...)
	}
	got := make([]byte, len(want))
	require.NoError(t, server.SetReadDeadline(time.Now().Add(patience)))
	_, err = io.ReadFull(server, got)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.EqualValues(t, len(pkts), r.SentMedia.Load())
}

// TestStreamFull: when the server takes nothing more, what cannot be queued has
// failed; after Close, all has.
func TestStreamFull(t *testing.T) {
	r := stalled(t, 0)
	s, _, server := dialled(t, r, nil)
	d := &Dest{stream: s, channel: 0x4000}
	b := new(Burst)
	total := int64(0)
	var err error
	for err == nil {
		fill(t, b, d, numbered(40, 1200))
		total += 40
		var failed []int
		failed, err = b.Send(d)
		if err != nil {
			require.Len(t, failed, 40)
		}
		require.Less(t, total, int64(100_000), "a server that does not read took 120 MB")
	}
	require.ErrorIs(t, err, errStreamFull)
	require.EqualValues(t, 40, r.SendErrors.Load())
	require.Equal(t, total, r.SentMedia.Load()+r.SendErrors.Load())
	require.NoError(t, s.Close()) // the pump waits in a write
	require.NoError(t, s.Close())
	fill(t, b, d, numbered(2, 100))
	failed, err := b.Send(d)
	require.ErrorIs(t, err, net.ErrClosed)
	require.Equal(t, []int{0, 1}, failed)
	require.NoError(t, server.Close())
}

// TestStreamBroken: once a connection is broken, media does not count as sent.
func TestStreamBroken(t *testing.T) {
	s, _, server := dialled(t, stalled(t, 0), nil)
	require.NoError(t, server.(*net.TCPConn).SetLinger(0)) // a reset
	require.NoError(t, server.Close())
	d := &Dest{stream: s, channel: 0x4000}
	b := new(Burst)
	require.Eventually(t, func() bool {
		fill(t, b, d, numbered(1, 100))
		failed, err := b.Send(d)
		require.Equal(t, err != nil, len(failed) == 1)
		return err != nil
	}, patience, time.Millisecond)
	_, _, err := s.ReadFrom(make([]byte, 10))
	require.Error(t, err)
}

// TestStreamTLS: the same over TLS, verified.
func TestStreamTLS(t *testing.T) {
	web := httptest.NewTLSServer(nil) // for its certificate
	cert, root := web.TLS.Certificates[0], web.Certificate()
	web.Close()
	pool := x509.NewCertPool()
	pool.AddCert(root)
	l, err := tls.Listen("tcp4", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	require.NoError(t, err)
	defer l.Close()
	host, err := stdnet.NewNet()
	require.NoError(t, err)
	all, _, _ := conversation(t)
	served := make(chan []byte, 2)
	serve := func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		if _, err := c.Write(all); err != nil {
			return
		}
		b, _ := io.ReadAll(c) // it ends without TLS's goodbye
		served <- b
	}
	sink, r := new(taken), stalled(t, 0)
	config := NetConfig{Host: host, Local: loopback, Sink: sink, TURNServer: l.Addr().String(), TLS: &tls.Config{RootCAs: pool, ServerName: "example.com"}}
	go serve()
	n := r.Net(config)
	c, err := n.ListenPacket("", "")
	require.NoError(t, err)
	require.Equal(t, "tls", n.TURNTransport())
	s := c.(*turnConn)
	require.NoError(t, s.SetReadDeadline(time.Now().Add(patience)))
	check(t, s, sink)
	d := &Dest{stream: s, channel: 0x4000}
	b := new(Burst)
	fill(t, b, d, numbered(1, 101))
	_, err = b.Send(d)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.queue) == 0 && cap(s.spare) > 0
	}, patience, time.Millisecond)
	require.NoError(t, s.Close())
	require.Equal(t, channelData(0x4000, packet(0, 101), true), <-served)

	config.TLS = &tls.Config{ServerName: "example.com"} // not of a root that the system has
	go serve()
	n = r.Net(config)
	_, err = n.ListenPacket("", "")
	require.Error(t, err)
	require.Equal(t, err, n.Err(), "ICE tells nobody")
	var unknown x509.UnknownAuthorityError
	require.ErrorAs(t, err, &unknown)
}

// TestStreamNobody: no TURN server listens.
func TestStreamNobody(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	n := stalled(t, 0).Net(NetConfig{Local: loopback, TURNServer: l.Addr().String()})
	_, err = n.ListenPacket("", "")
	require.ErrorContains(t, err, "TURN server")
	require.Equal(t, err, n.Err())
}
