package flow_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/flow"
)

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
	require.Equal(t, []flow.SFUReport{{Next: 4}, {Next: 2000}, {Next: 3000, Lost: 5}, {Next: 5000}}, p.Reports)
	require.Len(t, p.Keys, 5000)
	require.Equal(t, flow.KeyPoint{Intended: 4999 * flow.Grid, Seq: 4999}, p.Keys[4999])
}

// TestKeyLog: the oldest key points are dropped.
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
