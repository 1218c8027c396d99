package scenario_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
)

func stages(pairs ...float64) scenario.Load {
	var l scenario.Load
	for i := 0; i+1 < len(pairs); i += 2 {
		l.Stages = append(l.Stages, scenario.Stage{Duration: time.Duration(pairs[i] * float64(time.Second)), Target: pairs[i+1]})
	}
	return l
}

func TestTarget(t *testing.T) {
	hold := scenario.Load{Hold: 30 * time.Second}
	ramp := stages(10, 100, 20, 100, 10, 0)
	spike := stages(0, 20, 10, 20, 0, 300, 10, 300, 0, 50)
	for _, c := range []struct {
		load scenario.Load
		at   float64
		want float64
	}{
		{hold, -3, 7}, {hold, 0, 7}, {hold, 30, 7}, {hold, 100, 7},
		{ramp, -3, 0}, {ramp, 0, 0}, {ramp, 5, 50}, {ramp, 10, 100}, {ramp, 29.9, 100}, {ramp, 35, 50}, {ramp, 40, 0}, {ramp, 99, 0},
		{spike, -3, 20}, {spike, 0, 20}, {spike, 9.9, 20}, {spike, 10, 300}, {spike, 19.9, 300}, {spike, 20, 50}, {spike, 21, 50},
	} {
		require.InDelta(t, c.want, c.load.Target(time.Duration(c.at*float64(time.Second)), 7), 1e-9, "%v at %v", c.load.Stages, c.at)
	}
	require.Equal(t, 30*time.Second, hold.Length())
	require.Equal(t, 40*time.Second, ramp.Length())
	require.Equal(t, 20*time.Second, spike.Length())
	require.InDelta(t, 7, hold.Peak(7), 0)
	require.InDelta(t, 300, spike.Peak(7), 0)
	for _, c := range []struct {
		load scenario.Load
		at   time.Duration
		want float64
	}{
		{hold, 0, 7}, {hold, 30 * time.Second, 7}, {ramp, 0, 0}, {ramp, 5 * time.Second, 50}, {ramp, 10 * time.Second, 100}, {ramp, 40 * time.Second, 100},
		{spike, 0, 20}, {spike, 9 * time.Second, 20}, {spike, 10 * time.Second, 300}, {spike, 20 * time.Second, 300},
	} {
		require.InDelta(t, c.want, c.load.PeakUntil(c.at, 7), 1e-9, "%v until %v", c.load.Stages, c.at)
	}
}

func TestParticipants(t *testing.T) {
	p, s := parse(t, "rooms: {count: 3, publishers: 2, subscribers: 5}").Participants()
	require.Equal(t, []int{6, 15}, []int{p, s})
	p, s = parse(t, "rooms: {count: 3}\nload: {mode: open, stages: [{duration: 5s, target: 1}]}").Participants()
	require.Equal(t, []int{3, 0}, []int{p, s})
}
