package run_test

import (
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/report"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/run"
	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
)

func parse(t *testing.T, text string) *scenario.Scenario {
	s, err := scenario.Parse("test", strings.NewReader(text))
	require.NoError(t, err)
	return s
}

func do(t *testing.T, text string) *result.Report {
	s := parse(t, text)
	system, err := run.Find(t.Context(), run.FindConfig{Target: s.Target, Getenv: os.Getenv, Out: io.Discard})
	require.NoError(t, err)
	defer func() { require.NoError(t, system.Close()) }()
	rep, err := run.Run(t.Context(), run.Options{Scenario: s, SUT: system})
	require.NoError(t, err)
	report.Summary(testWriter{t}, rep)
	return rep
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimRight(string(p), "\n"))
	return len(p), nil
}

const small = `
target: {local: true}
paths: [direct, turn-udp]
rooms: {count: 2, publishers: 1, subscribers: 10}
media:
  clip: 4s
  video: {codec: vp8, width: 640, height: 360, fps: 30, bitrate: 600kbps}
  audio: {bitrate: 32kbps}
load: {warmup: 4s, hold: 6s}
`

// TestTwoRooms is CI's small run: 2 rooms, 20 subscribers, both paths; every
// packet is accounted for.
func TestTwoRooms(t *testing.T) {
	rep := do(t, small)
	require.Equal(t, 20, rep.Total.Subscribers)
	for _, p := range rep.Paths {
		require.Equal(t, 10, p.Subscribers, p.Name)
		require.Zero(t, p.Wrong, p.Name)
		require.Positive(t, p.Received.Packets)
		require.Equal(t, p.Received.Expected, p.Received.Packets+p.Received.Lost)
	}
	// Rates cover the measured part: each of two publishers has five subscribers on
	// each path, those through TURN from about its beginning.
	for _, p := range rep.Paths {
		share := float64(p.Received.MeasuredBytes) / float64(5*rep.Total.Sent.MeasuredBytes)
		require.Less(t, share, 1.1, p.Name)
		require.Greater(t, share, .6, p.Name)
	}
	for _, h := range rep.LossAttribution {
		if h.Hop == result.HopResidual {
			require.Zero(t, h.Packets, h.Path)
		}
	}
}
