package socket

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestKernelTime: a packet has the time of its arrival, however late it is read.
func TestKernelTime(t *testing.T) {
	sink := new(taken)
	var lags []time.Duration
	r, err := NewReactor(Config{OnReadLag: func(d time.Duration) { lags = append(lags, d) }})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	s := open(t, network(t, r, sink))
	c := other(t)
	in := newInbox()
	// The kernel begins to take times some moments after the first socket asked.
	require.Eventually(t, func() bool {
		had := len(sink.all())
		before := time.Now().UnixNano()
		_, err := c.WriteTo(packet(1, 100), s.LocalAddr())
		require.NoError(t, err)
		sent := time.Now().UnixNano()
		time.Sleep(2 * time.Millisecond) // it waits in the kernel
		s.read(in, nil)
		got := sink.all()
		require.Len(t, got, had+1, "loopback delivers at once")
		p := got[had]
		require.True(t, p.Kernel)
		require.GreaterOrEqual(t, p.At, before)
		return p.At <= sent
	}, patience, time.Millisecond)
	require.Len(t, lags, int(r.Media.Load()), "one for each read")
	require.GreaterOrEqual(t, slices.Max(lags), 2*time.Millisecond)
}

// TestBatch: waiting datagrams are read with few calls, in order.
func TestBatch(t *testing.T) {
	sink := new(taken)
	r := stalled(t, 0)
	s := open(t, network(t, r, sink))
	c := other(t)
	const n = 2*batch + 22
	want := numbered(n, 700)
	for _, p := range want {
		_, err := c.WriteTo(p, s.LocalAddr())
		require.NoError(t, err)
	}
	s.read(newInbox(), nil)
	got := sink.all()
	require.Len(t, got, n)
	for i, p := range got {
		require.Equal(t, want[i], p.Bytes)
	}
	require.EqualValues(t, 3, r.Reads.Load())
	require.Equal(t, 3, sink.calls)
	require.EqualValues(t, n, r.Media.Load())
	require.Zero(t, r.Control.Load())
}

// TestGather: a new socket is read at once, one with media every Gather.
func TestGather(t *testing.T) {
	const gather = 200 * time.Millisecond
	sink := new(taken)
	r := running(t, gather)
	s := open(t, network(t, r, sink))
	c := other(t)
	begin := time.Now()
	for i := range settle {
		_, err := c.WriteTo(packet(i, 100), s.LocalAddr())
		require.NoError(t, err)
		sink.await(t, i+1)
	}
	require.Less(t, time.Since(begin), settle*gather/2)
	before := r.Reads.Load()
	const more = 40
	for i := range more {
		_, err := c.WriteTo(packet(settle+i, 100), s.LocalAddr())
		require.NoError(t, err)
	}
	got := sink.await(t, settle+more)
	require.Less(t, r.Reads.Load()-before, int64(more/4))
	for i, p := range got {
		require.Equal(t, packet(i, 100), p.Bytes)
	}
}

// TestControl: ReadFrom returns other datagrams than media, with their sender.
func TestControl(t *testing.T) {
	sink := new(taken)
	r := running(t, 0)
	s := open(t, network(t, r, sink))
	c := other(t)
	for _, b := range [][]byte{
		{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, // STUN
		{22, 0xfe, 0xfd, 1},                                      // DTLS
		{0x80, 201, 0, 1, 0, 0, 0, 1},                            // RTCP
		channelData(0x4001, []byte{22, 0xfe, 0xfd, 1}, false),    // DTLS through TURN
		{0x40, 1, 0, 20, 0x80, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, // ChannelData that is cut off
		{1},
	} {
		_, err := c.WriteTo(b, s.LocalAddr())
		require.NoError(t, err)
		buf := make([]byte, 100)
		require.NoError(t, s.SetReadDeadline(time.Now().Add(patience)))
		n, from, err := s.ReadFrom(buf)
		require.NoError(t, err)
		require.Equal(t, b, buf[:n])
		require.Equal(t, c.LocalAddr().String(), from.String())
	}
	require.Empty(t, sink.all())
	require.EqualValues(t, 6, r.Control.Load())
	// And back.
	n, err := s.WriteTo([]byte{1, 2, 3}, c.LocalAddr())
	require.NoError(t, err)
	require.Equal(t, 3, n)
	require.Equal(t, [][]byte{{1, 2, 3}}, datagrams(t, c, 1))
}

// TestDeadlineAndClose: a deadline and Close end a blocked ReadFrom.
func TestDeadlineAndClose(t *testing.T) {
	s := open(t, network(t, running(t, 0), nil))
	require.NoError(t, s.SetReadDeadline(time.Now().Add(-time.Second)))
	_, _, err := s.ReadFrom(make([]byte, 10))
	var ne net.Error
	require.ErrorAs(t, err, &ne)
	require.True(t, ne.Timeout())
	require.NoError(t, s.SetReadDeadline(time.Time{}))
	waits := make(chan error, 1)
	go func() {
		_, _, err := s.ReadFrom(make([]byte, 10))
		waits <- err
	}()
	require.NoError(t, s.Close())
	require.Error(t, <-waits)
	require.ErrorIs(t, s.Close(), net.ErrClosed)
	_, err = s.WriteTo([]byte{1}, s.LocalAddr())
	require.ErrorIs(t, err, net.ErrClosed)
}

// TestIPv6: the same over IPv6.
func TestIPv6(t *testing.T) {
	r := running(t, 0)
	sink := new(taken)
	s, err := listen(r, netip.MustParseAddrPort("[::1]:0"), sink)
	if err != nil {
		t.Skip("no IPv6 loopback:", err)
	}
	defer s.Close()
	d := &Dest{socket: s, to: s.addr}
	want := numbered(5, 300)
	b := new(Burst)
	fill(t, b, d, want)
	failed, err := b.Send(d)
	require.NoError(t, err)
	require.Empty(t, failed)
	for i, p := range sink.await(t, len(want)) {
		require.Equal(t, want[i], p.Bytes)
	}
	_, err = s.WriteTo([]byte{1, 2}, s.LocalAddr())
	require.NoError(t, err)
	_, from, err := s.ReadFrom(make([]byte, 10))
	require.NoError(t, err)
	require.Equal(t, s.LocalAddr().String(), from.String())
}

// TestDrops: what a full buffer drops is counted exactly: seen with the next
// datagram, and before there is one.
func TestDrops(t *testing.T) {
	sink := new(taken)
	r := stalled(t, 0)
	n := network(t, r, sink)
	s := open(t, n)
	require.NoError(t, unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1)) // the kernel's minimum
	c := other(t)
	in := newInbox()
	sent := int64(0)
	flood := func(packets int) {
		for range packets {
			_, err := c.WriteTo(packet(int(sent), 500), s.LocalAddr())
			require.NoError(t, err)
			sent++
		}
	}
	flood(100)
	s.read(in, nil)
	lost := sent - int64(len(sink.all()))
	require.Positive(t, lost)
	require.Equal(t, lost, n.Drops())
	require.Zero(t, r.SocketDrops.Load(), "none came after the loss")
	flood(1)
	s.read(in, nil)
	require.Equal(t, sent-lost, int64(len(sink.all())))
	require.Equal(t, lost, r.SocketDrops.Load())
	require.Equal(t, lost, n.Drops())
	flood(100)
	s.read(in, nil)
	lost = sent - int64(len(sink.all()))
	require.NoError(t, s.Close())
	require.Equal(t, lost, n.Drops(), "also after Close")
	require.Equal(t, lost, r.SocketDrops.Load())
}

// TestQueueDrops: datagrams that pion does not read in time are counted.
func TestQueueDrops(t *testing.T) {
	r := stalled(t, 0)
	s := open(t, network(t, r, nil))
	c := other(t)
	in := newInbox()
	const n = 1100
	for range n {
		_, err := c.WriteTo([]byte{1, 2, 3}, s.LocalAddr())
		require.NoError(t, err)
		s.read(in, nil)
	}
	require.EqualValues(t, n, r.Control.Load())
	require.EqualValues(t, n-1024, r.QueueDrops.Load())
}

// TestTruncated: an oversized datagram is dropped, not truncated.
func TestTruncated(t *testing.T) {
	r := stalled(t, 0)
	sink := new(taken)
	s := open(t, network(t, r, sink))
	c := other(t)
	for _, size := range []int{slotSize, slotSize + 1} {
		_, err := c.WriteTo(packet(0, size), s.LocalAddr())
		require.NoError(t, err)
	}
	s.read(newInbox(), nil)
	require.Len(t, sink.all(), 1)
	require.EqualValues(t, 1, r.Truncated.Load())
}

// TestDescriptorsReused: sockets come and go while the reactor reads them; each
// sink gets only what was sent to its own socket.
func TestDescriptorsReused(t *testing.T) {
	r := running(t, time.Millisecond)
	var all sync.WaitGroup
	ctx, cancel := context.WithTimeout(context.Background(), 1500*time.Millisecond)
	defer cancel()
	var mu sync.Mutex
	rounds, came := 0, 0
	for w := range 8 {
		n, c := network(t, r, nil), other(t)
		all.Go(func() {
			d := new(Burst)
			for i := 0; ctx.Err() == nil; i++ {
				sink := &own{id: uint32(w<<20 | i)}
				s, err := listen(r, netip.AddrPortFrom(n.local, 0), sink)
				if err != nil {
					t.Error(err)
					return
				}
				// More than settle, so that it is closed in both epolls.
				for k := range settle + 8 {
					p := packet(int(sink.id), 200)
					p[2] = byte(k)
					_, _ = c.WriteTo(p, s.LocalAddr()) // what is lost is of no interest
				}
				out := &Dest{socket: s, to: s.addr}
				var closing sync.WaitGroup
				closing.Go(func() { _ = s.Close() })
				_ = d.Add(out, func(room []byte) ([]byte, error) { return append(room, packet(int(sink.id), 200)...), nil })
				_, _ = d.Send(out)
				_ = s.Drops()
				closing.Wait()
				sink.mu.Lock()
				if sink.strange > 0 {
					t.Errorf("%d packets of other sockets", sink.strange)
				}
				mu.Lock()
				rounds, came = rounds+1, came+sink.n
				mu.Unlock()
				sink.mu.Unlock()
			}
		})
	}
	all.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	require.Empty(t, r.sockets)
	require.Positive(t, came)
	t.Logf("%d sockets, %d packets", rounds, came)
}

// own counts the packets that have its number, and those that do not.
type own struct {
	id         uint32
	mu         sync.Mutex
	n, strange int
}

func (o *own) RTP(packets []Packet) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range packets {
		if string(p.Bytes[12:16]) == string([]byte{byte(o.id >> 24), byte(o.id >> 16), byte(o.id >> 8), byte(o.id)}) {
			o.n++
		} else {
			o.strange++
		}
	}
}
