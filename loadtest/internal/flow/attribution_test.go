package flow_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/flow"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// stream is a publisher whose frames have one packet, every fourth a key frame,
// and its subscribers; the test chooses who receives each packet.
type stream struct {
	log  *flow.Sent
	subs []*flow.Meter
	due  int64
}

func newStream(subs int) *stream {
	s := &stream{log: flow.NewSent(100), due: flow.Align(1_800_000_000 * 1000 * ms)}
	for range subs {
		s.subs = append(s.subs, flow.NewMeter(flow.MeterConfig{Clock: 90000}))
	}
	return s
}

// packet sends a packet that the given subscribers receive.
func (s *stream) packet(left bool, to ...int) {
	n := s.log.Seq()
	s.log.Frame(s.due, n%4 == 0)
	for _, i := range to {
		s.subs[i].Packet(flow.Packet{
			Seq: uint16(n), Timestamp: uint32(n * 3000), Marker: true, Size: 100, Payload: 70, At: s.due + ms, Stamped: true,
			Stamp: flow.Stamp{Intended: s.due, Seq: uint16(n), First: true, Key: n%4 == 0},
		})
	}
	s.log.Packet(100, 70, left)
	s.due = flow.Align(s.due + 33*ms)
}

func (s *stream) reported(lost uint32) { s.log.Reported(uint32(s.log.RTP()), lost) }

func (s *stream) attribute(t *testing.T, paths ...string) map[string]int64 {
	pubs := []flow.Publication{s.log.Publication("t", 0, false)}
	var subs []flow.Subscription
	for i, m := range s.subs {
		path := "direct"
		if i < len(paths) {
			path = paths[i]
		}
		subs = append(subs, m.Subscription("t", path, string(rune('a'+i)), 0, true))
	}
	lines := flow.Attribute(pubs, subs)
	// The result is the same after JSON, from worker to merge.
	raw, err := json.Marshal(pubs)
	require.NoError(t, err)
	var pubs2 []flow.Publication
	require.NoError(t, json.Unmarshal(raw, &pubs2))
	raw, err = json.Marshal(subs)
	require.NoError(t, err)
	var subs2 []flow.Subscription
	require.NoError(t, json.Unmarshal(raw, &subs2))
	require.Equal(t, lines, flow.Attribute(pubs2, subs2))

	out := map[string]int64{}
	for _, l := range lines {
		if l.Packets != 0 {
			out[l.Path+" "+l.Hop] = l.Packets
		}
		require.NotEmpty(t, l.Source)
	}
	return out
}

func TestNothingLostIsFiveZeroes(t *testing.T) {
	s := newStream(1)
	for range 8 {
		s.packet(true, 0)
	}
	s.reported(0)
	require.Empty(t, s.attribute(t))
	lines := flow.Attribute(nil, []flow.Subscription{s.subs[0].Subscription("t", "direct", "a", 0, true)})
	require.Len(t, lines, 5)
	require.Zero(t, flow.Lost(lines, "direct"))
}

// A packet that never reached the SFU is lost on each path, one lost after it
// on one path.
func TestEachPathHasItsOwnLines(t *testing.T) {
	s := newStream(3)
	for i := range 20 {
		switch i {
		case 5:
			s.packet(true)
		case 9:
			s.packet(true, 0, 2)
		case 13:
			s.packet(false)
		default:
			s.packet(true, 0, 1, 2)
		}
	}
	s.reported(2) // the failed one did not reach the SFU either
	require.Equal(t, map[string]int64{
		"direct " + result.HopPublisher: 2, "direct " + result.HopOwnSend: 2,
		"turn-udp " + result.HopPublisher: 1, "turn-udp " + result.HopOwnSend: 1, "turn-udp " + result.HopSubscriber: 1,
	}, s.attribute(t, "direct", "turn-udp", "direct"))
}

func TestTail(t *testing.T) {
	s := newStream(2)
	for range 8 {
		s.packet(true, 0, 1)
	}
	s.packet(true, 0) // the last one that reached the SFU
	s.reported(0)
	s.packet(true)
	s.packet(true)
	require.Equal(t, map[string]int64{"direct " + result.HopPublisher: 4, "direct " + result.HopSubscriber: 1}, s.attribute(t))
}

// A subscriber that left early did not lose later packets.
func TestSubscriberThatLeft(t *testing.T) {
	s := newStream(1)
	for range 8 {
		s.packet(true, 0)
	}
	for range 8 {
		s.packet(true)
	}
	s.reported(0)
	lines := flow.Attribute([]flow.Publication{s.log.Publication("t", 0, false)},
		[]flow.Subscription{s.subs[0].Subscription("t", "direct", "a", 0, false)})
	require.Zero(t, flow.Lost(lines, "direct"))
}

// A subscriber that was disconnected lost the packets sent until then, and none
// sent later.
func TestDisconnectedSubscriber(t *testing.T) {
	s := newStream(2)
	for range 8 {
		s.packet(true, 0, 1)
	}
	for range 5 {
		s.packet(true, 1)
	}
	until := s.log.Seq()
	for range 3 {
		s.packet(true, 1)
	}
	s.reported(0)
	out := s.subs[0].Subscription("t", "turn-udp", "a", 0, false)
	out.Until = until
	subs := []flow.Subscription{out, s.subs[1].Subscription("t", "direct", "b", 0, true)}
	pubs := []flow.Publication{s.log.Publication("t", 0, false)}
	lines := flow.Attribute(pubs, subs)
	require.EqualValues(t, 5, flow.Lost(lines, "turn-udp"))
	require.Zero(t, flow.Lost(lines, "direct"))
	for _, l := range lines {
		require.True(t, l.Packets == 0 || l.Hop == result.HopSubscriber, l)
	}
	subs[0].Until = 3 // fewer than it received: it lost nothing
	require.Zero(t, flow.Lost(flow.Attribute(pubs, subs), "turn-udp"))
}

// When the SFU dies, packets sent to it after that are lost before the SFU.
func TestTheSFUDies(t *testing.T) {
	s := newStream(2)
	for range 8 {
		s.packet(true, 0, 1)
	}
	s.reported(0)
	for range 4 {
		s.packet(true, 0, 1) // after its last report
	}
	for range 6 {
		s.packet(true)
	}
	var subs []flow.Subscription
	for i, m := range s.subs {
		sub := m.Subscription("t", "direct", string(rune('a'+i)), 0, false)
		sub.Until = s.log.Seq() - uint64(i)
		subs = append(subs, sub)
	}
	lines := flow.Attribute([]flow.Publication{s.log.Publication("t", 0, false)}, subs)
	require.EqualValues(t, 6+5, flow.Lost(lines, "direct"))
	for _, l := range lines {
		require.True(t, l.Packets == 0 || l.Hop == result.HopPublisher, l)
	}
}

func TestResidual(t *testing.T) {
	run := func(lost uint32) *stream {
		s := newStream(1)
		for i := range 20 {
			if i == 5 {
				s.packet(true)
			} else {
				s.packet(true, 0)
			}
		}
		if lost < 100 {
			s.reported(lost)
		}
		return s
	}
	// More packets were reported lost than any subscriber lost.
	require.Equal(t, map[string]int64{"direct " + result.HopPublisher: 1, "total " + result.HopResidual: 2}, run(3).attribute(t))
	// Retransmissions after the last report explain it.
	s := run(3)
	s.log.Resent()
	s.log.Resent()
	require.Equal(t, map[string]int64{"direct " + result.HopPublisher: 1}, s.attribute(t))
	// Without a report, the hop is unknown.
	require.Equal(t, map[string]int64{"direct " + result.HopResidual: 1}, run(100).attribute(t))
	// So it is with a report from before the loss.
	s = newStream(1)
	s.packet(true, 0)
	s.reported(0)
	s.packet(true)
	s.packet(true, 0)
	require.Equal(t, map[string]int64{"direct " + result.HopResidual: 1}, s.attribute(t))
}

func TestOwnReceiveIsSharedByASocket(t *testing.T) {
	var subs []flow.Subscription
	for range 2 {
		s := newStream(1)
		for i := range 20 {
			if i%5 == 3 {
				s.packet(true)
			} else {
				s.packet(true, 0)
			}
		}
		subs = append(subs, s.subs[0].Subscription("foreign", "direct", "same", 5, false))
	}
	got := map[string]int64{}
	for _, l := range flow.Attribute(nil, subs) {
		got[l.Hop] = l.Packets
	}
	require.EqualValues(t, 5, got[result.HopOwnReceive])
	require.EqualValues(t, 2*4-5, got[result.HopSubscriber])
}
