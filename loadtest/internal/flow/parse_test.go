package flow_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/flow"
)

const actID = 5

func datagram(t testing.TB, h rtp.Header, payload int) []byte {
	b, err := h.Marshal()
	require.NoError(t, err)
	return append(b, make([]byte, payload+flow.Tag)...)
}

func act(s flow.Stamp) []byte {
	v := s.NTP()
	b := make([]byte, 8)
	for i := range b {
		b[i] = byte(v >> (56 - 8*i))
	}
	return b
}

// Parse reads what pion writes.
func TestParseReadsWhatPionWrites(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for i := range 2000 {
		h := rtp.Header{
			Version: 2, Marker: r.IntN(2) == 0, PayloadType: uint8(96 + r.IntN(32)),
			SequenceNumber: uint16(r.Uint32()), Timestamp: r.Uint32(), SSRC: r.Uint32(),
			CSRC: make([]uint32, r.IntN(16)),
		}
		s := randomStamp(r, time.Now().UnixNano())
		id := uint8(actID)
		if i%2 == 0 { // a long element forces the two-byte form
			require.NoError(t, h.SetExtension(20, make([]byte, 17+r.IntN(100))))
			id = 200
		}
		require.NoError(t, h.SetExtension(3, []byte{1, 2, 3}))
		stamped := i%5 != 0
		if stamped {
			require.NoError(t, h.SetExtension(id, act(s)))
		}
		require.NoError(t, h.SetExtension(7, []byte{9}))
		b := datagram(t, h, 100)
		p := flow.Packet{Stamped: true, At: 42}
		ssrc, pt, ok := flow.Parse(b, len(b), id, &p)
		require.True(t, ok)
		require.Equal(t, h.SSRC, ssrc)
		require.Equal(t, h.PayloadType, pt)
		want := flow.Packet{
			Seq: h.SequenceNumber, Timestamp: h.Timestamp, Marker: h.Marker, Size: len(b), Payload: 100,
			Stamped: stamped, At: 42,
		}
		if stamped {
			want.Stamp = s
		}
		require.Equal(t, want, p)

		// The beginning of a datagram suffices.
		_, _, ok = flow.Parse(b[:h.MarshalSize()], len(b), id, &p)
		require.True(t, ok)
		require.Equal(t, want, p)
		// Without an id, nothing is a stamp.
		_, _, ok = flow.Parse(b, len(b), 0, &p)
		require.True(t, ok)
		require.False(t, p.Stamped)
	}
}

func TestParseRefuses(t *testing.T) {
	good := datagram(t, rtp.Header{Version: 2, PayloadType: 96}, 1)
	with := func(i int, v byte) []byte {
		b := append([]byte(nil), good...)
		b[i] = v
		return b
	}
	for name, b := range map[string][]byte{
		"empty": {}, "short": good[:11], "STUN": with(0, 0), "DTLS": with(0, 22), "ChannelData": with(0, 0x40),
		"sender report": with(1, 200), "feedback": with(1, 205),
		"no room for the tag": good[:12+flow.Tag-1], "CSRCs beyond": with(0, 0x8f), "extension beyond": with(0, 0x9f),
	} {
		var p flow.Packet
		_, _, ok := flow.Parse(b, len(b), actID, &p)
		require.False(t, ok, name)
	}
	var p flow.Packet
	_, _, ok := flow.Parse(with(0, 0xa0), len(good), actID, &p)
	require.True(t, ok)
	require.True(t, p.Padding)
	require.Zero(t, p.Payload)
}

func FuzzParse(f *testing.F) {
	h := rtp.Header{Version: 2, PayloadType: 96}
	require.NoError(f, h.SetExtension(actID, act(flow.Stamp{Seq: 7})))
	f.Add(datagram(f, h, 10), 0, uint8(actID))
	f.Add([]byte{0x90, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 1, 5, 200, 1, 1}, 1000, uint8(actID))
	f.Fuzz(func(t *testing.T, b []byte, more int, id uint8) {
		size := len(b) + max(0, min(more, 1<<16))
		var p flow.Packet
		ssrc, pt, ok := flow.Parse(b, size, id, &p)
		var h rtp.Header
		n, err := h.Unmarshal(b)
		if !ok || err != nil {
			return
		}
		require.Equal(t, h.SSRC, ssrc)
		require.Equal(t, h.PayloadType, pt)
		require.Equal(t, h.SequenceNumber, p.Seq)
		require.LessOrEqual(t, p.Payload, size)
		if !p.Padding {
			require.Equal(t, size-n-flow.Tag, p.Payload)
		}
		if p.Stamped {
			require.NotEmpty(t, h.GetExtension(id))
		}
	})
}

func stampedDatagram(t testing.TB) []byte {
	h := rtp.Header{Version: 2, PayloadType: 96}
	require.NoError(t, h.SetExtension(3, []byte{1, 2, 3})) // abs-send-time comes first
	require.NoError(t, h.SetExtension(actID, act(flow.Stamp{Intended: flow.Align(1_800_000_000_000_000_000), Seq: 7})))
	return datagram(t, h, 1100)
}
