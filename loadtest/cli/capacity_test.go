package cli

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/report"
	"github.com/openova-io/bp-relay/loadtest/scenario"
)

// TestPopulated: all have come in when the measured part begins.
func TestPopulated(t *testing.T) {
	s, err := scenario.Named("meeting")
	require.NoError(t, err)
	one := populated(s, 100)
	require.Equal(t, 100, one.Rooms.Subscribers)
	in := time.Duration(float64(100*s.Rooms.Count) / s.Load.JoinRate * float64(time.Second))
	require.Greater(t, one.Load.Warmup, in+2*time.Second)
	require.Equal(t, max(s.Load.Warmup, 3*time.Second+time.Duration(float64(s.Rooms.Count)/s.Load.JoinRate*1e9)), populated(s, 1).Load.Warmup)
}

// TestFilled: a run in which many were missing says nothing of them.
func TestFilled(t *testing.T) {
	for _, c := range []struct {
		there, failed int
		was, want     string
	}{
		{100, 0, report.Pass, report.Pass},
		{96, 3, report.Pass, report.Pass},
		{90, 0, report.Pass, report.Inconclusive},
		{90, 4, report.Pass, report.Fail},
		{90, 4, report.Broken, report.Broken},
		{90, 0, report.Fail, report.Fail},
	} {
		r := &report.Report{Verdict: report.Verdict{Result: c.was}}
		r.Total.Subscribers, r.Total.Joins.Failed = c.there, c.failed
		filled(r, 100)
		require.Equal(t, c.want, r.Verdict.Result, c)
		if c.was != c.want {
			require.Contains(t, r.Verdict.Reasons[0], "only 90 of 100 subscribers")
		}
	}
}
