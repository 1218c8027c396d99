package socket

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pion/transport/v4/stdnet"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// patience bounds what a test waits for.
const patience = 10 * time.Second

var loopback = netip.MustParseAddr("127.0.0.1")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// taken is a sink that keeps all packets.
type taken struct {
	mu    sync.Mutex
	pkts  []Packet
	calls int
}

func (s *taken) RTP(packets []Packet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	for _, p := range packets {
		p.Bytes = slices.Clone(p.Bytes)
		s.pkts = append(s.pkts, p)
	}
}

func (s *taken) all() []Packet {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.pkts)
}

func (s *taken) await(t testing.TB, n int) []Packet {
	t.Helper()
	require.Eventually(t, func() bool { return len(s.all()) >= n }, patience, time.Millisecond, "%d packets", n)
	return s.all()
}

// stalled is a reactor that does not run: the test calls read.
func stalled(t testing.TB, gather time.Duration) *Reactor {
	r, err := NewReactor(Config{Gather: gather})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

// running is a reactor that runs.
func running(t testing.TB, gather time.Duration) *Reactor {
	r := stalled(t, gather)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return r
}

func network(t testing.TB, r *Reactor, sink Sink) *Net {
	host, err := stdnet.NewNet()
	require.NoError(t, err)
	return r.Net(NetConfig{Host: host, Local: loopback, Sink: sink})
}

// open opens a socket of a participant; it is closed with the test.
func open(t testing.TB, n *Net) *udpConn {
	s, err := n.open(0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// other is a plain socket of the test.
func other(t testing.TB) *net.UDPConn {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetReadBuffer(buffer))
	return c
}

// packet is RTP of a size, with a number in its payload.
func packet(i, size int) []byte {
	b := make([]byte, max(size, 16))
	b[0], b[1] = 0x80, 96
	binary.BigEndian.PutUint16(b[2:], uint16(i))
	binary.BigEndian.PutUint32(b[12:], uint32(i))
	for k := 16; k < len(b); k++ {
		b[k] = byte(i + k)
	}
	return b
}

// channelData is a ChannelData message, padded for streams if pad is true.
func channelData(channel uint16, inner []byte, pad bool) []byte {
	b := binary.BigEndian.AppendUint16(nil, channel)
	b = binary.BigEndian.AppendUint16(b, uint16(len(inner)))
	b = append(b, inner...)
	for pad && len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// fill adds packets to a burst.
func fill(t testing.TB, b *Burst, d *Dest, pkts [][]byte) {
	b.Reset()
	for _, p := range pkts {
		require.NoError(t, b.Add(d, func(room []byte) ([]byte, error) { return append(room, p...), nil }))
	}
	require.Equal(t, len(pkts), b.Len())
}

// datagrams reads n datagrams.
func datagrams(t testing.TB, c net.PacketConn, n int) [][]byte {
	t.Helper()
	var out [][]byte
	require.NoError(t, c.SetReadDeadline(time.Now().Add(patience)))
	for len(out) < n {
		b := make([]byte, 1<<16)
		k, _, err := c.ReadFrom(b)
		require.NoError(t, err, "after %d of %d", len(out), n)
		out = append(out, b[:k])
	}
	return out
}

func numbered(n, size int) [][]byte {
	var out [][]byte
	for i := range n {
		out = append(out, packet(i, size))
	}
	return out
}
