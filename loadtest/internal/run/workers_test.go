package run_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/judge"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/run"
	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
)

// TestWorkers: the merged parts of two workers equal the run of one.
func TestWorkers(t *testing.T) {
	system := shared(t)
	for name, rooms := range map[string]string{
		"a room each":     "rooms: {count: 2, subscribers: 4}",
		"in the same":     "rooms: {count: 1, subscribers: 8}",
		"with media lost": "rooms: {count: 1, subscribers: 8}\nnack: false\nfault: {publish: {loss: 3%}, receive: {loss: 2%}}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const workers = 2
			whole := parse(t, light+"paths: [direct, turn-udp]\nload: {warmup: 2s, hold: 4s}\nthresholds: [\"loss < 50%\"]\n"+rooms)
			begin := time.Now().Add(3 * time.Second)
			parts, errs := make([]*result.Report, workers), make([]error, workers)
			var wg sync.WaitGroup
			for w := range workers {
				wg.Go(func() {
					parts[w], errs[w] = run.Do(t.Context(), run.DoConfig{
						Scenario: scenario.Share(w, workers, whole), SUT: system, Run: roomName(t),
						Begin: func(context.Context) (time.Time, error) { return begin, nil },
					})
				})
			}
			wg.Wait()
			for _, err := range errs {
				require.NoError(t, err)
			}
			for _, part := range parts {
				sound(t, part)
			}
			// The report has the whole scenario.
			raw, err := whole.JSON()
			require.NoError(t, err)
			for _, part := range parts {
				part.Scenario = raw
			}
			all, err := result.Merge(parts)
			require.NoError(t, err)
			judge.Judge(all, whole.Thresholds)
			sound(t, all)
			require.Len(t, all.Parts, workers)
			require.Equal(t, 8, all.Total.Subscribers)
			require.Equal(t, whole.Rooms.Count, all.Total.Publishers)
			require.Equal(t, 8+whole.Rooms.Count, all.Total.Joins.Succeeded)
			require.Equal(t, parts[0].Total.Received.Packets+parts[1].Total.Received.Packets, all.Total.Received.Packets)
			for _, p := range all.Paths {
				require.Equal(t, 4, p.Subscribers, p.Name)
			}
			if whole.Rooms.Count < workers {
				require.Contains(t, strings.Join(all.Provenance.Notes, "\n"), "another worker published")
			}
			require.NotEqual(t, result.Broken, all.Verdict.Result, all.Verdict.Reasons)
			require.True(t, all.Thresholds[0].Passed)
		})
	}
}
