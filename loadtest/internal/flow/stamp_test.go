package flow_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/livekit/mediatransportutil"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/flow"
)

// forwarded rewrites an abs-capture-time as LiveKit does when it forwards it:
// livekit-server pkg/sfu/rtpextension/abscapturetime Rewrite(0).
func forwarded(v uint64) uint64 {
	return uint64(mediatransportutil.ToNtpTime(mediatransportutil.NtpTime(v).Time().Add(0)))
}

func randomStamp(r *rand.Rand, ns int64) flow.Stamp {
	return flow.Stamp{
		Intended: flow.Align(ns), Seq: uint16(r.IntN(4096)), Layer: uint8(r.IntN(4)),
		Key: r.IntN(2) == 0, First: r.IntN(2) == 0,
	}
}

func TestAlign(t *testing.T) {
	require.Equal(t, int64(0), flow.Align(0))
	require.Equal(t, int64(flow.Grid), flow.Align(1))
	require.Equal(t, int64(flow.Grid), flow.Align(flow.Grid))
	require.Equal(t, int64(0), flow.Align(-1))
}

func TestStampSurvivesLiveKit(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	check := func(ns int64) {
		s := randomStamp(r, ns)
		v := s.NTP()
		require.Equal(t, s, flow.FromNTP(v))
		for range 3 { // through several SFUs
			v = forwarded(v)
			require.Equal(t, s, flow.FromNTP(v))
		}
		require.InDelta(t, float64(s.Intended), float64(mediatransportutil.NtpTime(v).Time().UnixNano()), flow.Grid)
	}
	from, to := time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2036, 2, 7, 6, 28, 14, 0, time.UTC)
	for range 200_000 {
		check(from.UnixNano() + r.Int64N(to.UnixNano()-from.UnixNano()))
	}
	for year := 1971; year <= 2036; year++ {
		at := time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()
		for d := int64(-50); d <= 50; d++ {
			check(at + d*flow.Grid/7)
		}
	}
}

func TestStampAfterNTPBeginsAgain(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	at := time.Date(2036, 2, 7, 6, 28, 16, 0, time.UTC).UnixNano()
	for i := range int64(10_000) {
		s := randomStamp(r, at+(i-5000)*flow.Grid)
		require.Equal(t, s, flow.FromNTP(s.NTP()))
	}
}

func FuzzFromNTP(f *testing.F) {
	f.Add(uint64(0))
	f.Add(flow.Stamp{Intended: flow.Align(time.Now().UnixNano()), Seq: 4095, Layer: 3, Key: true, First: true}.NTP())
	f.Fuzz(func(t *testing.T, v uint64) {
		s := flow.FromNTP(v)
		require.Zero(t, s.Intended%flow.Grid)
		require.Less(t, s.Seq, uint16(4096))
		require.Less(t, s.Layer, uint8(4))
		require.Equal(t, s, flow.FromNTP(s.NTP()))
	})
}
