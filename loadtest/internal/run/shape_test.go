package run_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/run"
)

// TestShapes: however participants join and leave, each attempt is counted, the
// counts of those who left are kept, and nobody remains in a room.
func TestShapes(t *testing.T) {
	system := shared(t)
	for name, c := range map[string]struct {
		load  string
		check func(t *testing.T, rep *result.Report)
	}{
		"ramp, step and spike": {
			load: `
rooms: {count: 2, subscribers: 4}
paths: [direct, turn-udp]
load:
  warmup: 1s
  stages: [{duration: 2s, target: 4}, {duration: 0s, target: 8}, {duration: 3s, target: 8}, {duration: 0s, target: 2}, {duration: 2s, target: 2}]
`,
			check: func(t *testing.T, rep *result.Report) {
				require.LessOrEqual(t, rep.Total.Subscribers, 8)
				require.Greater(t, rep.Total.Subscribers, 4) // a join may be under way when the spike ends
				last := rep.Timeline[len(rep.Timeline)-1]
				there := 0
				for _, p := range last.Paths {
					there += p.Participants
				}
				require.LessOrEqual(t, there, 2+2)
				require.Equal(t, 8, rep.Total.PlannedSubscribers)
				for _, p := range rep.Paths { // the first ones stay
					require.Zero(t, p.MissingSubscribers, p.Name)
				}
			},
		},
		"churn": {
			load: `
rooms: {count: 1, subscribers: 6}
load: {warmup: 1s, hold: 5s, churn: {half_life: 1s}}
`,
			check: func(t *testing.T, rep *result.Report) {
				require.Greater(t, subscribers(rep), 8) // 17 more are expected; 2 or fewer have a probability of 10^-5
				require.LessOrEqual(t, rep.Total.Subscribers, 6)
			},
		},
		"arrivals": {
			load: `
rooms: {count: 2, subscribers: 0}
paths: [direct, turn-udp]
load: {mode: open, warmup: 500ms, stay: 1s, stages: [{duration: 0s, target: 6}, {duration: 4s, target: 6}]}
`,
			check: func(t *testing.T, rep *result.Report) {
				require.Positive(t, subscribers(rep))
				require.Zero(t, rep.Total.Joins.Dropped)
			},
		},
		"too many under way": {
			load: `
rooms: {count: 1, subscribers: 0}
load: {mode: open, warmup: 500ms, stay: 1s, max_pending: 1, stages: [{duration: 0s, target: 40}, {duration: 3s, target: 40}]}
`,
			check: func(t *testing.T, rep *result.Report) {
				require.Positive(t, rep.Total.Joins.Dropped)
				require.Positive(t, subscribers(rep))
			},
		},
		"closed, one at a time": {
			load: `
rooms: {count: 1, subscribers: 4}
load: {warmup: 2s, hold: 3s, max_pending: 1}
`,
			check: func(t *testing.T, rep *result.Report) {
				require.Zero(t, rep.Total.Joins.Dropped) // a population waits
				require.Equal(t, 4, rep.Total.Subscribers)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rep := start(t, run.Options{Scenario: parse(t, light+c.load), SUT: system})
			c.check(t, rep)
			j := rep.Total.Joins
			require.Zero(t, j.Failed, rep.Errors)
			// Every participant has left in the end, witness or not.
			require.Equal(t, subscribers(rep), j.Left+j.Reconnects)
			require.Equal(t, subscribers(rep), rep.Provenance.Witnesses+rep.Provenance.HeaderOnly)
			require.False(t, slices.ContainsFunc(rooms(t, system), func(room string) bool {
				return strings.Contains(room, roomName(t))
			}))
		})
	}
}

// subscribers returns how many subscribers joined in total.
func subscribers(rep *result.Report) int { return rep.Total.Joins.Succeeded - rep.Total.Publishers }
