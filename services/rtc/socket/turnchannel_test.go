package socket

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/pion/stun/v3"
	"github.com/stretchr/testify/require"
)

func channelBindRequest(t testing.TB, channel uint16, peer *net.UDPAddr) []byte {
	m, err := stun.Build(stun.TransactionID, stun.NewType(stun.MethodChannelBind, stun.ClassRequest))
	require.NoError(t, err)
	m.Add(stun.AttrChannelNumber, binary.BigEndian.AppendUint16(nil, channel))
	m.Add(stun.AttrChannelNumber, []byte{0, 0}) // the first one counts (RFC 8489 section 14)
	require.NoError(t, (&stun.XORMappedAddress{IP: peer.IP, Port: peer.Port}).AddToAs(m, stun.AttrXORPeerAddress))
	m.Encode()
	return m.Raw
}

// TestChannelTable: a channel is known once the client sends through it.
func TestChannelTable(t *testing.T) {
	var table channelTable
	a := &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 4000}
	b := &net.UDPAddr{IP: net.ParseIP("2001:db8::1"), Port: 5000}
	unknown := func(p net.Addr) {
		_, ok := table.to(p)
		require.False(t, ok)
	}
	one, other := netip.MustParseAddrPort("192.0.2.9:3478"), netip.MustParseAddrPort("192.0.2.10:3478")
	is := func(p net.Addr, number uint16, server netip.AddrPort) {
		got, ok := table.to(p)
		require.True(t, ok)
		require.Equal(t, channel{number, server}, got)
	}
	unknown(a)
	table.sent(channelData(0x4000, []byte{1}, false), one) // nobody asked for it
	unknown(a)
	table.sent(channelBindRequest(t, 0x4000, a), one)
	table.sent(channelBindRequest(t, 0x4001, b), other)
	unknown(a)
	table.sent(channelData(0x4000, []byte{1}, false), one)
	is(a, 0x4000, one)
	unknown(b)
	table.sent(channelBindRequest(t, 0x4000, a), one) // it is renewed
	is(a, 0x4000, one)
	table.sent(channelData(0x4001, []byte{1}, true), other)
	is(b, 0x4001, other)
	is(a, 0x4000, one)
	unknown(&net.TCPAddr{IP: a.IP, Port: a.Port})
	unknown(&net.UDPAddr{IP: a.IP, Port: 4001})
}

func FuzzChannelTable(f *testing.F) {
	server := netip.MustParseAddrPort("192.0.2.9:3478")
	f.Add(channelBindRequest(f, 0x4000, &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 4000}), uint16(0x4000))
	f.Add(channelBindRequest(f, 0x4fff, &net.UDPAddr{IP: net.ParseIP("2001:db8::1"), Port: 1}), uint16(0x4fff))
	f.Add([]byte{0, 9, 0, 0, 0x21, 0x12, 0xa4, 0x42}, uint16(1))
	f.Fuzz(func(t *testing.T, b []byte, number uint16) {
		var table channelTable
		table.sent(b, server)
		if len(table.bound) > 0 {
			t.Fatal("a channel is bound before data went through it")
		}
		table.sent(channelData(number, b, false), server)
		for peer, ch := range table.bound {
			if ch != (channel{number, server}) || number < 0x4000 || number > 0x4fff {
				t.Fatalf("channel %v is bound to %s", ch, peer)
			}
			if got, ok := table.to(net.UDPAddrFromAddrPort(peer)); !ok || got != ch {
				t.Fatalf("%s: %v, %v", peer, got, ok)
			}
		}
	})
}

// TestMedia: media recognises RTP, alone and in ChannelData.
func TestMedia(t *testing.T) {
	rtp := packet(7, 40)
	rtcp := append([]byte{0x80, 200, 0, 9}, make([]byte, 36)...)
	with := func(b []byte, at int, v byte) []byte {
		b = append([]byte(nil), b...)
		b[at] = v
		return b
	}
	in := channelData(0x4000, rtp, false)
	for name, tc := range map[string]struct {
		b  []byte
		ok bool
	}{
		"RTP":                     {rtp, true},
		"RTP with marker":         {with(rtp, 1, 96|0x80), true},
		"shorter than a header":   {rtp[:11], false},
		"a header":                {rtp[:12], true},
		"version 1":               {with(rtp, 0, 0x40), false},
		"RTCP SR":                 {rtcp, false},
		"RTCP, lowest":            {with(rtcp, 1, 192), false},
		"RTCP, highest":           {with(rtcp, 1, 223), false},
		"below RTCP":              {with(rtcp, 1, 191), true},
		"above RTCP":              {with(rtcp, 1, 224), true},
		"in a channel":            {in, true},
		"in the last channel":     {with(in, 0, 0x4f), true},
		"beyond channels":         {with(in, 0, 0x50), false},
		"padded":                  {append(in, 0, 0, 0), true},
		"length too long":         {with(in, 3, 41), false},
		"length far too long":     {with(in, 2, 0xff), false},
		"length less than RTP":    {with(in, 3, 11), false},
		"RTCP in a channel":       {channelData(0x4000, rtcp, false), false},
		"a channel in a channel":  {channelData(0x4000, in, false), false},
		"a channel without data":  {channelData(0x4000, nil, false), false},
		"half a channel's header": {in[:3], false},
		"nothing":                 {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := media(tc.b)
			require.Equal(t, tc.ok, ok)
			require.False(t, ok && IsRTCP(got))
		})
	}
	got, _ := media(append(in, 0, 0, 0))
	require.Equal(t, rtp, got)
	require.True(t, IsRTCP(rtcp))
	require.False(t, IsRTCP(rtcp[:7]))
	require.False(t, IsRTCP(rtp))
}

func FuzzMedia(f *testing.F) {
	f.Add(packet(1, 40))
	f.Add(channelData(0x4000, packet(1, 41), true))
	f.Add([]byte{0x40, 0, 0xff, 0xff, 0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, ok := media(b)
		if ok && (!IsRTP(got) || IsRTCP(got) || len(got) > len(b)) {
			t.Fatalf("%x is no media", got)
		}
		if again, ok2 := media(got); ok && (!ok2 || len(again) != len(got)) {
			t.Fatal("media in media")
		}
	})
}

// FuzzFrame: whatever a TURN server sends, frames cover the stream without gaps,
// and none is empty.
func FuzzFrame(f *testing.F) {
	all, _, _ := conversation(f)
	f.Add(all)
	f.Add([]byte{0x40, 0, 0xff, 0xff})
	f.Add([]byte{0xff, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		for rest := b; ; {
			n, ok := frame(rest)
			if !ok {
				break
			}
			if n < channelHeader || n > len(rest) {
				t.Fatalf("a frame of %d of %d bytes", n, len(rest))
			}
			if short, ok := frame(rest[:n-1]); ok && rest[0] <= 0x4f {
				t.Fatalf("%d bytes are a frame, and %d of them, too", n, short)
			}
			rest = rest[n:]
		}
	})
}

// TestAddresses: addresses survive the kernel's form.
func TestAddresses(t *testing.T) {
	in := newInbox()
	for _, text := range []string{"192.0.2.1:1", "[2001:db8::1]:65535", "0.0.0.0:258", "[::]:0", "127.0.0.1:443"} {
		a := netip.MustParseAddrPort(text)
		in.msgs[0].hdr.Namelen = sockaddr(a, &in.names[0]) // the last one's rest is no part of it
		require.Equal(t, a, in.from(0))
	}
	sockaddr(netip.MustParseAddrPort("[::ffff:192.0.2.9]:7"), &in.names[0])
	require.Equal(t, netip.MustParseAddrPort("192.0.2.9:7"), in.from(0))
	in.names[0].Family = 1
	require.False(t, in.from(0).IsValid())
}
