package flow_test

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/flow"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// For any packets, the meter's counts balance and the attributed losses sum up
// to the packets lost. Each packet is eight bytes: a step of the sequence
// number, a step of the stamp, and bits.
func FuzzMeter(f *testing.F) {
	f.Add([]byte{0, 1, 0, 1, 3, 0, 0, 1, 0, 2, 0, 2, 1, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 1})
	f.Add([]byte{0, 1, 0, 1, 7, 0, 0, 1, 0x7f, 0, 0, 2, 0x17, 3, 0, 1, 0x80, 0, 0xff, 0xff, 0x87, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		log := flow.NewSent(0)
		due := flow.Align(1_800_000_000 * 1000 * ms)
		for i := range 600 {
			log.Frame(due+int64(i)*flow.Grid, i%7 == 0)
			log.Packet(100, 70, i%50 != 9)
		}
		log.Reported(590, 30)
		m := flow.NewMeter(flow.MeterConfig{Clock: 90000, Audio: len(b)%2 == 1})
		var seq uint16
		var number, n int64
		for ; len(b) >= 8; b = b[8:] {
			seq += binary.BigEndian.Uint16(b)
			number += int64(int16(binary.BigEndian.Uint16(b[2:])))
			x := b[4]
			intended := due + max(0, number)*flow.Grid + int64(b[5])*flow.Grid<<(b[6]&15)
			m.Packet(flow.Packet{
				Seq: seq, Timestamp: uint32(number) * 90, Marker: x&1 != 0, Size: 100, Payload: 70, At: intended + ms,
				Stamped: x&2 == 0, Padding: x&64 != 0,
				Stamp: flow.Stamp{Intended: intended, Seq: uint16(number) & 4095, Layer: x >> 4 & 1, First: x&4 != 0, Key: x&8 != 0},
			})
			n++
			if b[7]&1 != 0 {
				for _, s := range m.DueNACKs(intended+30*ms, nil) {
					m.NACKed(s)
				}
			}
		}
		c := m.Snapshot()
		require.Equal(t, n, c.Packets+c.Duplicates+c.Discarded)
		require.GreaterOrEqual(t, c.Lost, int64(0))
		require.GreaterOrEqual(t, c.Frames, int64(0))
		require.LessOrEqual(t, c.Padding, c.Packets)
		s := m.Subscription("t", "direct", "a", 3, false)
		var lost int64
		for _, g := range s.Losses {
			lost += g.N
		}
		require.Equal(t, c.Lost, lost)
		lines := flow.Attribute([]flow.Publication{log.Publication("t", 0, false), log.Publication("t", 1, true)}, []flow.Subscription{s})
		for _, l := range lines {
			require.GreaterOrEqual(t, l.Packets, int64(0), l.Hop)
		}
		require.GreaterOrEqual(t, flow.Lost(lines, "direct"), c.Lost)
		require.Zero(t, flow.Lost(lines, "turn-udp"))
		require.NotEqual(t, result.Total, lines[0].Path)
	})
}
