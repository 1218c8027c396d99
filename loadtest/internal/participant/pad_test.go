package participant

import (
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/clip"
	"github.com/openova-io/bp-relay/services/rtc/socket"
)

// padding reads packets without media, by SSRC.
func (o *outlet) padding(t *testing.T, n int) map[uint32]*rtp.Packet {
	t.Helper()
	out := map[uint32]*rtp.Packet{}
	require.NoError(t, o.conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	for range n {
		b := make([]byte, 2048)
		k, err := o.conn.Read(b)
		require.NoError(t, err)
		plain, err := o.in.DecryptRTP(nil, b[:k], nil)
		require.NoError(t, err)
		p := new(rtp.Packet)
		require.NoError(t, p.Unmarshal(plain))
		require.True(t, p.Padding)
		require.Empty(t, p.Payload)
		out[p.SSRC] = p
	}
	require.Len(t, out, n)
	return out
}

// TestNudge: after Stop, each layer that LiveKit has not reported on sends one
// more packet, with the same number until LiveKit has reported.
func TestNudge(t *testing.T) {
	o := newOutlet(t, PublisherConfig{Audio: sound(5), Video: []*clip.Clip{movie(3, 30, 3), movie(3, 30, 3)}})
	o.begin(noon)
	b := new(socket.Burst)
	for _, l := range o.Layers() {
		o.step(t, o.bySSRC(l.SSRC), b)
	}
	o.Nudge()
	o.nothing(t) // media continues, and so do reports
	o.Stop()
	for range 2 {
		o.Nudge()
		for ssrc, p := range o.padding(t, 3) {
			s := o.bySSRC(ssrc)
			require.Equal(t, s.sent.RTP(), p.SequenceNumber)
			require.Equal(t, s.ts, p.Timestamp)
		}
	}
	before := o.Layers()
	report := func(l Layer) {
		next := uint32(o.bySSRC(l.SSRC).sent.RTP()) + 1 // including the padding
		o.receiveRTCP([]rtcp.Packet{&rtcp.ReceiverReport{Reports: []rtcp.ReceptionReport{{SSRC: l.SSRC, LastSequenceNumber: next}}}})
	}
	report(before[1])
	require.False(t, o.Settled())
	o.Nudge()
	require.NotContains(t, o.padding(t, 2), before[1].SSRC)
	report(before[0])
	report(before[2])
	require.True(t, o.Settled())
	o.Nudge()
	o.nothing(t)
	require.Equal(t, before, o.Layers(), "padding is not media")
}
