package cli

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
)

// TestPopulated: all have joined when the measured part begins.
func TestPopulated(t *testing.T) {
	s, err := scenario.Named("meeting")
	require.NoError(t, err)
	one := populated(s, 100)
	require.Equal(t, 100, one.Rooms.Subscribers)
	in := time.Duration(float64(100*s.Rooms.Count) / s.Load.JoinRate * float64(time.Second))
	require.Greater(t, one.Load.Warmup, in+2*time.Second)
	require.Equal(t, max(s.Load.Warmup, 3*time.Second+time.Duration(float64(s.Rooms.Count)/s.Load.JoinRate*1e9)), populated(s, 1).Load.Warmup)
}
