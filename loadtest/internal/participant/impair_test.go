package participant

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pion/transport/v4"
	"github.com/pion/transport/v4/stdnet"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/rtc/socket"
)

// patience bounds what a test waits for.
const patience = 10 * time.Second

// numbered returns RTP packets (RFC 3550 section 5.1) from number i to i+n-1.
func numbered(i, n int) [][]byte {
	var out [][]byte
	for k := i; k < i+n; k++ {
		p := make([]byte, 100)
		p[0], p[1] = 0x80, 96
		binary.BigEndian.PutUint32(p[12:], uint32(k))
		out = append(out, p)
	}
	return out
}

func numbers(pkts [][]byte) []int {
	var out []int
	for _, p := range pkts {
		out = append(out, int(binary.BigEndian.Uint32(p[12:])))
	}
	return out
}

// wire is a participant's socket and one of the test that media goes to.
type wire struct {
	from transport.UDPConn
	to   *net.UDPConn
	dest *socket.Dest
}

func newWire(t *testing.T) *wire {
	r, err := socket.NewReactor(socket.Config{})
	require.NoError(t, err)
	host, err := stdnet.NewNet()
	require.NoError(t, err)
	n := r.Net(socket.NetConfig{Host: host, Local: netip.MustParseAddr("127.0.0.1")})
	w := new(wire)
	w.from, err = n.ListenUDP("udp4", nil)
	require.NoError(t, err)
	w.to, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	require.NoError(t, w.to.SetReadBuffer(4<<20))
	t.Cleanup(func() {
		_, _ = w.from.Close(), w.to.Close() // a test may have closed the first
		require.NoError(t, r.Close())
	})
	w.dest, err = n.Direct(w.from.LocalAddr(), w.to.LocalAddr())
	require.NoError(t, err)
	return w
}

// burst returns a burst of packets.
func (w *wire) burst(t *testing.T, pkts [][]byte) *socket.Burst {
	b := new(socket.Burst)
	for _, p := range pkts {
		require.NoError(t, b.Add(w.dest, func(room []byte) ([]byte, error) { return append(room, p...), nil }))
	}
	return b
}

// read reads n datagrams.
func (w *wire) read(t *testing.T, n int) [][]byte {
	t.Helper()
	var out [][]byte
	require.NoError(t, w.to.SetReadDeadline(time.Now().Add(patience)))
	for len(out) < n {
		b := make([]byte, 2048)
		k, err := w.to.Read(b)
		require.NoError(t, err, "after %d of %d", len(out), n)
		out = append(out, b[:k])
	}
	return out
}

// taken is a sink that keeps all packets.
type taken struct {
	mu   sync.Mutex
	pkts []socket.Packet
}

func (s *taken) RTP(packets []socket.Packet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range packets {
		p.Bytes = slices.Clone(p.Bytes)
		s.pkts = append(s.pkts, p)
	}
}

func (s *taken) bytes() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out [][]byte
	for _, p := range s.pkts {
		out = append(out, p.Bytes)
	}
	return out
}

// TestSendLoss: the share is dropped and counted exactly; the same seed drops the same.
func TestSendLoss(t *testing.T) {
	const n, rounds, share = 50, 20, 0.2
	run := func(seed uint64) []int {
		im := NewImpairment(seed)
		im.Loss = share
		seen := 0
		im.OnPacket = func([]byte, bool) { seen++ }
		w := newWire(t)
		for i := range rounds {
			b := w.burst(t, numbered(i*n, n))
			failed, err := im.send(b, w.dest)
			require.NoError(t, err)
			require.Empty(t, failed)
			require.Zero(t, b.Len())
		}
		require.Equal(t, n*rounds, seen)
		require.InDelta(t, n*rounds*share, im.Dropped(), 60) // the seed is given: it is the same always
		return numbers(w.read(t, n*rounds-int(im.Dropped())))
	}
	a := run(1)
	require.True(t, slices.IsSorted(a))
	require.Equal(t, a, run(1))
	require.NotEqual(t, a, run(2))
}

// TestSendLossNamesFailures: a failed packet after a dropped one has its original index.
func TestSendLossNamesFailures(t *testing.T) {
	lossy := func() *Impairment {
		im := NewImpairment(3)
		im.Loss = 0.5
		return im
	}
	closed := newWire(t)
	b := closed.burst(t, numbered(0, 20))
	require.NoError(t, closed.from.Close())
	im := lossy()
	failed, err := im.send(b, closed.dest)
	require.ErrorIs(t, err, net.ErrClosed)
	require.Len(t, failed, 20-int(im.Dropped()))
	require.NotEqual(t, len(failed)-1, failed[len(failed)-1], "they were not counted anew")
	// The same seed drops the same ones, and the others arrive.
	open := newWire(t)
	_, err = lossy().send(open.burst(t, numbered(0, 20)), open.dest)
	require.NoError(t, err)
	require.Equal(t, failed, numbers(open.read(t, len(failed))))
}

// TestAllLost: a burst without any packet left is no error, and is not sent.
func TestAllLost(t *testing.T) {
	im := NewImpairment(1)
	im.Loss = 1
	w := newWire(t)
	failed, err := im.send(w.burst(t, numbered(0, 3)), w.dest)
	require.NoError(t, err)
	require.Empty(t, failed)
	require.EqualValues(t, 3, im.Dropped())
}

// TestPaddingIsNotLost: LiveKit's padding, and the publisher's, only arrives later.
func TestPaddingIsNotLost(t *testing.T) {
	im := NewImpairment(1)
	im.Loss = 1
	w := newWire(t)
	pkts := numbered(0, 3)
	pkts[1][0] |= 0x20
	_, err := im.send(w.burst(t, pkts), w.dest)
	require.NoError(t, err)
	require.Equal(t, []int{1}, numbers(w.read(t, 1)))
	require.EqualValues(t, 2, im.Dropped())
}

// TestReceiveLoss: the same when receiving.
func TestReceiveLoss(t *testing.T) {
	const n, share = 1000, 0.3
	im := NewImpairment(1)
	im.Loss = share
	to := new(taken)
	sink := im.Sink(to)
	for _, p := range numbered(0, n) {
		sink.RTP([]socket.Packet{{Bytes: p}})
	}
	require.InDelta(t, n*share, im.Dropped(), 80)
	got := numbers(to.bytes())
	require.Len(t, got, n-int(im.Dropped()))
	require.True(t, slices.IsSorted(got))
}

// TestSendDelay: packets arrive in order and not before the delay.
func TestSendDelay(t *testing.T) {
	im := NewImpairment(1)
	im.Delay = 100 * time.Millisecond
	w := newWire(t)
	begin := time.Now()
	for i := range 20 {
		b := w.burst(t, numbered(i, 1))
		failed, err := im.send(b, w.dest)
		require.NoError(t, err)
		require.Empty(t, failed)
		require.Zero(t, b.Len())
	}
	got := numbers(w.read(t, 20))
	require.GreaterOrEqual(t, time.Since(begin), im.Delay)
	require.True(t, slices.IsSorted(got))
	im.Wait()
}

// TestReceiveDelay: bytes that are held back are not those of a buffer that is used
// again, their time is the end of the delay, and Wait waits for all.
func TestReceiveDelay(t *testing.T) {
	im := NewImpairment(1)
	im.Delay = 20 * time.Millisecond
	to := new(taken)
	sink := im.Sink(to)
	begin := time.Now()
	shared := make([]byte, 100)
	pkts := numbered(0, 10)
	for _, p := range pkts {
		copy(shared, p)
		sink.RTP([]socket.Packet{{Bytes: shared, At: 1}})
	}
	clear(shared)
	im.Wait()
	require.GreaterOrEqual(t, time.Since(begin), im.Delay)
	require.Equal(t, pkts, to.bytes())
	for _, p := range to.pkts {
		require.Equal(t, 1+int64(im.Delay), p.At)
	}
}
