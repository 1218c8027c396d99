package socket

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func sizes(list ...int) [][]byte {
	var out [][]byte
	for i, n := range list {
		out = append(out, packet(i, n))
	}
	return out
}

func addrPort(c net.PacketConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }

// TestBurst: each packet comes out as it went in, with as few calls as the
// kernel's limits allow.
func TestBurst(t *testing.T) {
	for name, tc := range map[string]struct {
		pkts  [][]byte
		calls int64
		plain int64 // calls without GSO
	}{
		"one":                      {numbered(1, 1200), 1, 1},
		"equal":                    {numbered(30, 1200), 1, 1},
		"the last one shorter":     {append(numbered(30, 1200), packet(30, 20)), 1, 1},
		"first shorter":            {append([][]byte{packet(99, 40)}, numbered(10, 1200)...), 2, 2},
		"growing":                  {sizes(100, 200, 300), 3, 3},
		"falling":                  {sizes(300, 200, 100), 2, 2},
		"more segments than 64":    {numbered(200, 50), 4, 4},
		"more than 65,000 bytes":   {numbered(100, 1208), 2, 2}, // 53 and 47
		"two frames' worth":        {append(numbered(5, 1000), numbered(5, 1100)...), 2, 2},
		"as large as a slot":       {numbered(3, slotSize), 1, 1},
		"small ones in the middle": {sizes(500, 500, 100, 500, 500, 100), 2, 2},
	} {
		for _, gso := range []bool{true, false} {
			t.Run(map[bool]string{true: "gso ", false: "plain "}[gso]+name, func(t *testing.T) {
				r := stalled(t, 0)
				s, c := open(t, network(t, r, nil)), other(t)
				s.noGSO.Store(!gso)
				d := &Dest{socket: s, to: addrPort(c)}
				b := new(Burst)
				fill(t, b, d, tc.pkts)
				failed, err := b.Send(d)
				require.NoError(t, err)
				require.Empty(t, failed)
				require.Zero(t, b.Len())
				require.Equal(t, tc.pkts, datagrams(t, c, len(tc.pkts)))
				want := tc.calls
				if !gso {
					want = tc.plain
				}
				require.Equal(t, want, r.Sends.Load())
				require.EqualValues(t, len(tc.pkts), r.SentMedia.Load())
				require.Zero(t, r.SendErrors.Load())
				require.Equal(t, gso, !s.noGSO.Load())
			})
		}
	}
}

// TestBurstEmpty: an empty burst sends nothing, and an empty packet is refused.
func TestBurstEmpty(t *testing.T) {
	r := stalled(t, 0)
	s, c := open(t, network(t, r, nil)), other(t)
	d := &Dest{socket: s, to: addrPort(c)}
	b := new(Burst)
	failed, err := b.Send(d)
	require.NoError(t, err)
	require.Empty(t, failed)
	require.Error(t, b.Add(d, func(room []byte) ([]byte, error) { return room, nil }))
	require.Error(t, b.Add(d, func([]byte) ([]byte, error) { return packet(0, 20), nil }), "it is not in the room")
	require.Error(t, b.Add(d, func(room []byte) ([]byte, error) { return append(room, make([]byte, slotSize+1)...), nil }))
	require.ErrorIs(t, b.Add(d, func([]byte) ([]byte, error) { return nil, net.ErrClosed }), net.ErrClosed)
	require.Zero(t, b.Len())
	require.Zero(t, r.Sends.Load())
}

// TestNoGSO: if the kernel does not segment, packets are sent one by one.
func TestNoGSO(t *testing.T) {
	r := stalled(t, 0)
	s, c := open(t, network(t, r, nil)), other(t)
	// Without checksums there is no UDP GSO (net/ipv4/udp.c, udp_send_skb).
	require.NoError(t, unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_NO_CHECK, 1))
	d := &Dest{socket: s, to: addrPort(c)}
	b := new(Burst)
	for range 2 {
		want := numbered(20, 900)
		fill(t, b, d, want)
		failed, err := b.Send(d)
		require.NoError(t, err)
		require.Empty(t, failed)
		require.Equal(t, want, datagrams(t, c, len(want)))
	}
	require.True(t, s.noGSO.Load())
	require.EqualValues(t, 3, r.Sends.Load(), "it is tried once")
	require.EqualValues(t, 40, r.SentMedia.Load())
}

// TestBurstFails: a failed send names its packets.
func TestBurstFails(t *testing.T) {
	r := stalled(t, 0)
	s := open(t, network(t, r, nil))
	for _, gso := range []bool{true, false} {
		s.noGSO.Store(!gso)
		d := &Dest{socket: s, to: netip.MustParseAddrPort("255.255.255.255:9")} // not allowed without SO_BROADCAST
		b := new(Burst)
		before := r.SendErrors.Load()
		fill(t, b, d, sizes(100, 100, 200, 200, 50))
		failed, err := b.Send(d)
		require.ErrorIs(t, err, unix.EACCES)
		require.Equal(t, []int{0, 1, 2, 3, 4}, failed)
		require.EqualValues(t, before+5, r.SendErrors.Load())
		require.Equal(t, gso, !s.noGSO.Load(), "that is no reason to give up GSO")
	}
	require.NoError(t, s.Close())
	d := &Dest{socket: s, to: s.addr}
	b := new(Burst)
	fill(t, b, d, numbered(3, 100))
	failed, err := b.Send(d)
	require.ErrorIs(t, err, net.ErrClosed)
	require.Equal(t, []int{0, 1, 2}, failed)
	require.Zero(t, r.SentMedia.Load())
}

// TestBurstChannel: through TURN each packet has ChannelData's header, without
// padding over UDP, and the GSO runs stay.
func TestBurstChannel(t *testing.T) {
	r := stalled(t, 0)
	s, c := open(t, network(t, r, nil)), other(t)
	d := &Dest{socket: s, to: addrPort(c), channel: 0x4123}
	b := new(Burst)
	pkts := append(numbered(4, 1203), packet(4, 33))
	fill(t, b, d, pkts)
	failed, err := b.Send(d)
	require.NoError(t, err)
	require.Empty(t, failed)
	for i, got := range datagrams(t, c, len(pkts)) {
		require.Equal(t, channelData(0x4123, pkts[i], false), got)
		inner, ok := media(got)
		require.True(t, ok)
		require.Equal(t, pkts[i], inner)
	}
	require.EqualValues(t, 1, r.Sends.Load())
}

// TestBurstFilter: packets are removed with their framing, and the others stay as
// they are; a clone keeps its packets.
func TestBurstFilter(t *testing.T) {
	for name, channel := range map[string]uint16{"direct": 0, "TURN": 0x4123} {
		t.Run(name, func(t *testing.T) {
			s, c := open(t, network(t, stalled(t, 0), nil)), other(t)
			d := &Dest{socket: s, to: addrPort(c), channel: channel}
			b := new(Burst)
			pkts := sizes(100, 101, 102, 103, 1200)
			fill(t, b, d, pkts)
			all := b.Clone()
			var seen [][]byte
			b.Filter(func(i int, rtp []byte) bool {
				seen = append(seen, slices.Clone(rtp))
				return i%2 == 1
			})
			require.Equal(t, pkts, seen)
			for _, sent := range []struct {
				burst *Burst
				want  [][]byte
			}{{b, [][]byte{pkts[1], pkts[3]}}, {all, pkts}} {
				failed, err := sent.burst.Send(d)
				require.NoError(t, err)
				require.Empty(t, failed)
				for i, got := range datagrams(t, c, len(sent.want)) {
					rtp, ok := media(got)
					require.True(t, ok)
					require.Equal(t, sent.want[i], rtp)
				}
			}
		})
	}
}
