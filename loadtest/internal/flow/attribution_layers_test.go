package flow_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/flow"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// The SFU leaves layers out of a stream that ends with a key frame: whether
// later packets were for the subscriber is unknown, because these layers end
// the frame.
func TestSparseStreamEndsWithAKeyFrame(t *testing.T) {
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
		for range 3 { // one more frame, which is lost
			log.Packet(100, 70, true)
		}
		log.Reported(uint32(log.RTP()), 0)
		lines := flow.Attribute([]flow.Publication{log.Publication("t", 0, false)}, []flow.Subscription{m.Subscription("t", "direct", "a", 0, true)})
		require.Equal(t, c.lost, flow.Lost(lines, "direct"), name)
	}
}

// Packets missing at the beginning of the first key frame were lost.
func TestFirstKeyFrameLacksPackets(t *testing.T) {
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
	require.Equal(t, map[string]int64{"direct " + result.HopSubscriber: 2}, s.attribute(t))
}

// Packets that LiveKit sends without stamps before it switches to another layer
// are not counted for that layer: nothing is lost before its key frame, and
// nothing is a duplicate.
func TestUnstampedOfAnotherLayer(t *testing.T) {
	for before := range 12 { // packets of the previous layer
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
			lines := flow.Attribute([]flow.Publication{s.log.Publication("t", 0, false), high.Publication("t", 1, false)},
				[]flow.Subscription{m.Subscription("t", "direct", "a", 0, true)})
			for _, l := range lines {
				want := int64(0)
				if lose && l.Hop == result.HopSubscriber {
					want = 1
				}
				require.Equal(t, want, l.Packets, "%d before: %+v", before, l)
			}
		}
	}
}

// The last packet of a layer belongs to its run even if it arrives after the
// first, unstamped packet of the next layer.
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
	for _, l := range flow.Attribute([]flow.Publication{s.log.Publication("t", 0, false), low.Publication("t", 1, false)},
		[]flow.Subscription{m.Subscription("t", "direct", "a", 0, true)}) {
		require.Zero(t, l.Packets, "%+v", l)
	}
}
