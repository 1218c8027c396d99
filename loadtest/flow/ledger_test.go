package flow_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/flow"
	"github.com/openova-io/bp-relay/loadtest/report"
)

// stream is a publisher of single-packet key frames every fourth packet, and
// its subscribers; what comes through is said packet by packet.
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

// packet goes to those subscribers that are given.
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

func (s *stream) settle(t *testing.T, paths ...string) map[string]int64 {
	pubs := []flow.Publication{s.log.Publication("t", 0, false)}
	var subs []flow.Subscription
	for i, m := range s.subs {
		path := "direct"
		if i < len(paths) {
			path = paths[i]
		}
		subs = append(subs, m.Subscription("t", path, string(rune('a'+i)), 0, true))
	}
	lines := flow.Settle(pubs, subs)
	// What goes through JSON, from worker to merge, comes to the same.
	raw, err := json.Marshal(pubs)
	require.NoError(t, err)
	var pubs2 []flow.Publication
	require.NoError(t, json.Unmarshal(raw, &pubs2))
	raw, err = json.Marshal(subs)
	require.NoError(t, err)
	var subs2 []flow.Subscription
	require.NoError(t, json.Unmarshal(raw, &subs2))
	require.Equal(t, lines, flow.Settle(pubs2, subs2))

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
	require.Empty(t, s.settle(t))
	lines := flow.Settle(nil, []flow.Subscription{s.subs[0].Subscription("t", "direct", "a", 0, true)})
	require.Len(t, lines, 5)
	require.Zero(t, flow.Lost(lines, "direct"))
}

// One packet that the SFU never had is lost on each path, one behind it on one.
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
	s.reported(2) // the failed one is missing to the SFU too
	require.Equal(t, map[string]int64{
		"direct " + report.HopPublisher: 2, "direct " + report.HopOwnSend: 2,
		"turn-udp " + report.HopPublisher: 1, "turn-udp " + report.HopOwnSend: 1, "turn-udp " + report.HopSubscriber: 1,
	}, s.settle(t, "direct", "turn-udp", "direct"))
}

func TestTail(t *testing.T) {
	s := newStream(2)
	for range 8 {
		s.packet(true, 0, 1)
	}
	s.packet(true, 0) // the SFU's last
	s.reported(0)
	s.packet(true)
	s.packet(true)
	require.Equal(t, map[string]int64{"direct " + report.HopPublisher: 4, "direct " + report.HopSubscriber: 1}, s.settle(t))
}

// A subscriber that left early did not lose what came later.
func TestWhoLeftLostNothing(t *testing.T) {
	s := newStream(1)
	for range 8 {
		s.packet(true, 0)
	}
	for range 8 {
		s.packet(true)
	}
	s.reported(0)
	lines := flow.Settle([]flow.Publication{s.log.Publication("t", 0, false)},
		[]flow.Subscription{s.subs[0].Subscription("t", "direct", "a", 0, false)})
	require.Zero(t, flow.Lost(lines, "direct"))
}

// One that fell out missed what was sent until then, and nothing of what came
// later.
func TestWhoFellOut(t *testing.T) {
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
	lines := flow.Settle(pubs, subs)
	require.EqualValues(t, 5, flow.Lost(lines, "turn-udp"))
	require.Zero(t, flow.Lost(lines, "direct"))
	for _, l := range lines {
		require.True(t, l.Packets == 0 || l.Hop == report.HopSubscriber, l)
	}
	subs[0].Until = 3 // fewer than it got: all that was sent
	require.Zero(t, flow.Lost(flow.Settle(pubs, subs), "turn-udp"))
}

// A stream of which the SFU leaves layers out ends with a key frame: whether what
// followed was meant for it is not known, since those layers are its end.
func TestTheEndOfASievedKeyFrame(t *testing.T) {
	for name, c := range map[string]struct {
		sparse bool
		kept   int // of each frame's three packets
		lost   int64
	}{"all layers": {true, 3, 3}, "some layers": {true, 2, 0}, "no layers": {false, 3, 3}} {
		log := flow.NewSent(100)
		m := flow.NewMeter(flow.MeterConfig{Clock: 90000, Sparse: c.sparse})
		due, down := flow.Align(1_800_000_000*1000*ms), uint16(0)
		for frame := range 9 { // a key frame each fourth
			for i := range 3 {
				n, key := log.Seq(), frame%4 == 0
				if i == 0 {
					log.Frame(due, key)
				}
				if i < c.kept {
					m.Packet(flow.Packet{
						Seq: down, Timestamp: uint32(frame * 3000), Marker: i == c.kept-1, Size: 100, Payload: 70, At: due + ms, Stamped: true,
						Stamp: flow.Stamp{Intended: due, Seq: uint16(n), First: i == 0, Key: key},
					})
					down++
				}
				log.Packet(100, 70, true)
			}
			due = flow.Align(due + 33*ms)
		}
		for range 3 { // one frame more, that does not come
			log.Packet(100, 70, true)
		}
		log.Reported(uint32(log.RTP()), 0)
		lines := flow.Settle([]flow.Publication{log.Publication("t", 0, false)}, []flow.Subscription{m.Subscription("t", "direct", "a", 0, true)})
		require.Equal(t, c.lost, flow.Lost(lines, "direct"), name)
	}
}

// When the SFU dies, what was sent to it since is lost before it.
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
	lines := flow.Settle([]flow.Publication{s.log.Publication("t", 0, false)}, subs)
	require.EqualValues(t, 6+5, flow.Lost(lines, "direct"))
	for _, l := range lines {
		require.True(t, l.Packets == 0 || l.Hop == report.HopPublisher, l)
	}
}

// Behind a key frame's first packet nothing is meant to be missing.
func TestLead(t *testing.T) {
	s := newStream(1)
	key := func(to ...int) {
		n := s.log.Seq()
		if n == 0 {
			s.log.Frame(s.due, true)
		}
		for _, i := range to {
			s.subs[i].Packet(flow.Packet{Seq: uint16(n), At: s.due, Stamped: true, Stamp: flow.Stamp{Intended: s.due, Seq: uint16(n), First: n == 0, Key: true}})
		}
		s.log.Packet(100, 70, true)
	}
	key()
	key()
	key(0)
	key(0)
	s.reported(0)
	require.Equal(t, map[string]int64{"direct " + report.HopSubscriber: 2}, s.settle(t))
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
	// More was lost than can be missing to anyone.
	require.Equal(t, map[string]int64{"direct " + report.HopPublisher: 1, "total " + report.HopResidual: 2}, run(3).settle(t))
	// Retransmissions after the last report explain it.
	s := run(3)
	s.log.Resent()
	s.log.Resent()
	require.Equal(t, map[string]int64{"direct " + report.HopPublisher: 1}, s.settle(t))
	// Without a report nobody knows where.
	require.Equal(t, map[string]int64{"direct " + report.HopResidual: 1}, run(100).settle(t))
	// A report from before the loss neither.
	s = newStream(1)
	s.packet(true, 0)
	s.reported(0)
	s.packet(true)
	s.packet(true, 0)
	require.Equal(t, map[string]int64{"direct " + report.HopResidual: 1}, s.settle(t))
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
	for _, l := range flow.Settle(nil, subs) {
		got[l.Hop] = l.Packets
	}
	require.EqualValues(t, 5, got[report.HopOwnReceive])
	require.EqualValues(t, 2*4-5, got[report.HopSubscriber])
}

func TestSent(t *testing.T) {
	s := flow.NewSent(65534)
	require.EqualValues(t, 65534, s.RTP())
	for i := range 5000 {
		s.Frame(int64(i)*flow.Grid, true)
		s.Packet(10, 5, i != 7 && i != 8 && i != 20)
	}
	s.Resent()
	require.Equal(t, flow.SentCounters{Packets: 4997, Bytes: 49970, PayloadBytes: 24985, Frames: 5000, Failed: 3, Retransmitted: 1}, s.Counters())
	require.EqualValues(t, 4998, s.RTP())
	s.Reported(1<<16+2, 0)          // before packet 4
	s.Reported(1<<16+998, 0)        // 1000
	s.Reported(1<<16+1998, 0)       // 2000
	s.Reported(1<<16+2998, 5)       // 3000
	s.Reported(1<<16+2498, 4)       // late
	s.Reported(1<<16+5500, 4)       // of packets never sent
	s.Reported(1<<16+4998, 1<<24-1) // -1: duplicates
	p := s.Publication("t", 2, false)
	require.Equal(t, []flow.Range{{From: 7, To: 9}, {From: 20, To: 21}}, p.Failed)
	require.Equal(t, []flow.Upstream{{Next: 4}, {Next: 2000}, {Next: 3000, Lost: 5}, {Next: 5000}}, p.Upstream)
	require.Len(t, p.Keys, 5000)
	require.Equal(t, flow.KeyPoint{Intended: 4999 * flow.Grid, Seq: 4999}, p.Keys[4999])
}

// TestKeyLog: the oldest key points are forgotten.
func TestKeyLog(t *testing.T) {
	const most, more = 1 << 17, 904
	s := flow.NewSent(65_000)
	for i := range int64(most + more) {
		s.Frame(i*flow.Grid, true)
		s.Packet(100, 80, true)
	}
	p := s.Publication("t", 0, true)
	require.Len(t, p.Keys, most)
	require.Equal(t, flow.KeyPoint{Intended: more * flow.Grid, Seq: more}, p.Keys[0])
	require.Equal(t, flow.KeyPoint{Intended: (most + more - 1) * flow.Grid, Seq: most + more - 1}, p.Keys[most-1])
}

// What LiveKit sends without stamps before it switches to another layer is not
// taken for packets of that one: nothing is lost before its key frame, and
// nothing was received twice.
func TestUnstampedOfAnotherLayer(t *testing.T) {
	for before := range 12 { // packets of the layer before
		for _, lose := range []bool{false, true} {
			s := newStream(0)
			high := flow.NewSent(7)
			m := flow.NewMeter(flow.MeterConfig{Clock: 90000, Starts: true})
			down := uint16(500)
			put := func(stamped bool, stamp flow.Stamp) {
				down++
				m.Packet(flow.Packet{Seq: down, Timestamp: uint32(down) * 3000, Marker: true, Size: 100, Payload: 70, At: s.due + ms, Stamped: stamped, Stamp: stamp})
			}
			for range before {
				high.Frame(s.due, high.Seq() == 0)
				high.Packet(100, 70, true)
				put(false, flow.Stamp{})
			}
			for n := range uint16(16) {
				key := n%4 == 0
				s.log.Frame(s.due, key)
				switch {
				case n < 4: // the switch is at the second key frame
				case lose && n == 9:
					down++
				default:
					put(n > 5, flow.Stamp{Intended: s.due, Seq: n, First: true, Key: key})
				}
				s.log.Packet(100, 70, true)
				s.due = flow.Align(s.due + 33*ms)
			}
			s.reported(0)
			high.Reported(uint32(high.RTP()), 0)
			lines := flow.Settle([]flow.Publication{s.log.Publication("t", 0, false), high.Publication("t", 1, false)},
				[]flow.Subscription{m.Subscription("t", "direct", "a", 0, true)})
			for _, l := range lines {
				want := int64(0)
				if lose && l.Hop == report.HopSubscriber {
					want = 1
				}
				require.Equal(t, want, l.Packets, "%d before: %+v", before, l)
			}
		}
	}
}

// The last packet of a layer, which comes when the first one of the next is
// there, without a stamp, is of its run.
func TestLateAtASwitch(t *testing.T) {
	s := newStream(0)
	low := flow.NewSent(7)
	m := flow.NewMeter(flow.MeterConfig{Clock: 90000})
	put := func(n uint16, stamped bool, stamp flow.Stamp) {
		m.Packet(flow.Packet{Seq: n, Timestamp: uint32(n) * 3000, Marker: true, Size: 100, Payload: 70, At: s.due + ms, Stamped: stamped, Stamp: stamp})
	}
	var last flow.Stamp
	for n := range uint16(5) {
		s.log.Frame(s.due, n == 0)
		stamp := flow.Stamp{Intended: s.due, Seq: n, First: true, Key: n == 0}
		if n < 4 {
			put(n, true, stamp)
		}
		s.log.Packet(100, 70, true)
		last = stamp
		s.due = flow.Align(s.due + 33*ms)
	}
	for n := range uint16(8) {
		low.Frame(s.due, n%4 == 0)
		put(5+n, n > 1, flow.Stamp{Intended: s.due, Seq: n, Layer: 1, First: true, Key: n%4 == 0})
		if n == 0 {
			put(4, true, last)
		}
		low.Packet(100, 70, true)
		s.due = flow.Align(s.due + 33*ms)
	}
	s.reported(0)
	low.Reported(uint32(low.RTP()), 0)
	for _, l := range flow.Settle([]flow.Publication{s.log.Publication("t", 0, false), low.Publication("t", 1, false)},
		[]flow.Subscription{m.Subscription("t", "direct", "a", 0, true)}) {
		require.Zero(t, l.Packets, "%+v", l)
	}
}
