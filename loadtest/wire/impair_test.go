package wire

import (
	"encoding/binary"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func numbers(pkts [][]byte) []int {
	var out []int
	for _, p := range pkts {
		out = append(out, int(binary.BigEndian.Uint32(p[12:])))
	}
	return out
}

func bytesOf(pkts []Packet) [][]byte {
	var out [][]byte
	for _, p := range pkts {
		out = append(out, p.Bytes)
	}
	return out
}

// TestSendLoss: a share is lost, counted exactly, the same with the same seed.
func TestSendLoss(t *testing.T) {
	const n, rounds, share = 50, 20, 0.2
	run := func(seed uint64) (kept []int, lost int64) {
		im := NewImpairment(seed)
		im.SendLoss = share
		r := stalled(t, 0)
		way := way(t, r, nil, im)
		s, c := open(t, way), other(t)
		d, err := way.Direct(s.LocalAddr(), c.LocalAddr())
		require.NoError(t, err)
		b := new(Burst)
		for i := range rounds {
			var pkts [][]byte
			for k := range n {
				pkts = append(pkts, packet(i*n+k, 100))
			}
			fill(t, b, d, pkts)
			failed, err := b.Send(d)
			require.NoError(t, err)
			require.Empty(t, failed)
			require.Zero(t, b.Len())
		}
		lost, received := im.Dropped()
		require.Zero(t, received)
		got := datagrams(t, c, n*rounds-int(lost))
		require.EqualValues(t, len(got), r.SentMedia.Load())
		for _, p := range got {
			require.Equal(t, packet(int(binary.BigEndian.Uint32(p[12:])), 100), p)
		}
		return numbers(got), lost
	}
	a, lost := run(1)
	require.True(t, slices.IsSorted(a))
	require.InDelta(t, n*rounds*share, lost, 60) // the seed is given: it is the same always
	b, _ := run(1)
	require.Equal(t, a, b)
	c, _ := run(2)
	require.NotEqual(t, a, c)
}

// TestSendLossNamesFailures: what fails after a loss has its old place.
func TestSendLossNamesFailures(t *testing.T) {
	im := NewImpairment(3)
	im.SendLoss = 0.5
	r := stalled(t, 0)
	s := open(t, way(t, r, nil, im))
	d := &Dest{socket: s, to: s.addr, in: im}
	b := new(Burst)
	fill(t, b, d, numbered(20, 100))
	require.NoError(t, s.Close())
	failed, err := b.Send(d)
	require.ErrorIs(t, err, net.ErrClosed)
	lost, _ := im.Dropped()
	require.Len(t, failed, 20-int(lost))
	require.NotEqual(t, len(failed)-1, failed[len(failed)-1], "they were not counted anew")
	// The same seed drops the same ones, and the others arrive.
	again := NewImpairment(3)
	again.SendLoss = 0.5
	s, c := open(t, way(t, r, nil, again)), other(t)
	d = &Dest{socket: s, to: addrPort(c), in: again}
	fill(t, b, d, numbered(20, 100))
	_, err = b.Send(d)
	require.NoError(t, err)
	require.Equal(t, failed, numbers(datagrams(t, c, len(failed))))
}

// TestReceiveLoss: the same on the way in; what is no media passes.
func TestReceiveLoss(t *testing.T) {
	im := NewImpairment(1)
	im.ReceiveLoss = 0.3
	sink := new(taken)
	r := running(t, 0)
	s, c := open(t, way(t, r, sink, im)), other(t)
	const n = 1000
	for i := range n {
		_, err := c.WriteTo(packet(i, 100), s.LocalAddr())
		require.NoError(t, err)
	}
	for range 20 {
		_, err := c.WriteTo([]byte{22, 1}, s.LocalAddr())
		require.NoError(t, err)
		require.NoError(t, s.SetReadDeadline(time.Now().Add(patience)))
		_, _, err = s.ReadFrom(make([]byte, 10))
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return r.Media.Load() == n }, patience, time.Millisecond)
	sent, lost := im.Dropped()
	require.Zero(t, sent)
	require.InDelta(t, 0.3*n, lost, 80)
	got := sink.await(t, n-int(lost))
	require.Len(t, got, n-int(lost))
	require.True(t, slices.IsSorted(numbers(bytesOf(got))))
}

// TestDelays: each direction has its own delay, and keeps its order.
func TestDelays(t *testing.T) {
	const out, back = 250 * time.Millisecond, 40 * time.Millisecond
	im := NewImpairment(1)
	im.SendDelay, im.ReceiveDelay = out, back
	sink := new(taken)
	n := way(t, running(t, 0), sink, im)
	s, c := open(t, n), other(t)
	d, err := n.Direct(s.LocalAddr(), c.LocalAddr())
	require.NoError(t, err)
	begin := time.Now()
	b := new(Burst)
	for i := range 20 {
		fill(t, b, d, [][]byte{packet(i, 100)})
		failed, err := b.Send(d)
		require.NoError(t, err)
		require.Empty(t, failed)
		_, err = c.WriteTo(packet(i, 100), s.LocalAddr())
		require.NoError(t, err)
	}
	sent := time.Now()
	got := sink.await(t, 20)
	require.GreaterOrEqual(t, time.Since(begin), back)
	for _, p := range got {
		require.True(t, p.Kernel)
		require.GreaterOrEqual(t, p.At, begin.Add(back).UnixNano(), "the time is that of the end of the delay")
		require.LessOrEqual(t, p.At, sent.Add(back).UnixNano()+int64(time.Second))
	}
	require.True(t, slices.IsSorted(numbers(bytesOf(got))))
	sentPkts := datagrams(t, c, 20)
	require.GreaterOrEqual(t, time.Since(begin), out)
	require.True(t, slices.IsSorted(numbers(sentPkts)))
	im.Wait()
}

// TestDelayed: bytes that are held back are not those of a buffer that is used
// again, and Wait waits for all.
func TestDelayed(t *testing.T) {
	im := NewImpairment(1)
	im.ReceiveDelay = 20 * time.Millisecond
	sink := new(taken)
	shared := packet(0, 100)
	for i := range 10 {
		copy(shared, packet(i, 100))
		im.receive([]Packet{{Bytes: shared, At: 1}}, sink)
	}
	copy(shared, packet(99, 100))
	require.Empty(t, sink.all())
	im.Wait()
	got := sink.all()
	require.Len(t, got, 10)
	for i, p := range got {
		require.Equal(t, packet(i, 100), p.Bytes)
		require.Equal(t, 1+int64(im.ReceiveDelay), p.At)
	}
}
