package run_test

import (
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/report"
	"github.com/openova-io/bp-relay/loadtest/run"
	"github.com/openova-io/bp-relay/loadtest/scenario"
)

// TestMedia: every kind of media goes through the real LiveKit, decrypts, is a
// bitstream of its codec, and loses nothing.
func TestMedia(t *testing.T) {
	place, err := run.Find(t.Context(), run.FindConfig{Target: scenario.Target{Local: true}, Getenv: os.Getenv, Out: io.Discard})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, place.Close()) })
	const head = "target: {local: true}\nwitnesses: 1\nrooms: {count: 1, publishers: 2, subscribers: 3}\nload: {warmup: 1s, hold: 2s}\n"
	video := func(v string) string {
		return head + "media:\n  clip: 4s\n  video: {width: 640, height: 360, fps: 30, bitrate: 600kbps, " + v + "}\n"
	}
	for _, c := range []struct{ name, text string }{
		{"vp9", video("codec: vp9")},
		{"av1", video("codec: av1")},
		{"h264", video("codec: h264")},
		{"opus", head + "media: {clip: 4s, audio: {}}\n"},
		{"vp8 simulcast", video("codec: vp8, simulcast: 3, quality: mixed")},
		{"h264 simulcast", video("codec: h264, simulcast: 2, quality: low")},
		{"vp9 L1T3", video("codec: vp9, svc: L1T3")},
	} {
		t.Run(c.name, func(t *testing.T) {
			rep, err := run.Run(t.Context(), run.Options{Scenario: parse(t, c.text), Place: place})
			require.NoError(t, err)
			got := rep.Total.Received
			require.Equal(t, 3, rep.Provenance.Witnesses)
			require.Positive(t, got.Frames)
			require.Zero(t, got.Undecryptable)
			require.Zero(t, got.Malformed)
			require.Zero(t, got.Lost, "%+v", rep.Ledger)
			require.Empty(t, rep.Errors)
			for _, h := range rep.Ledger {
				require.False(t, h.Hop == report.HopResidual && h.Packets != 0, "%+v", h)
			}
		})
	}
}

// TestMessages: data messages reach every subscriber, each once.
func TestMessages(t *testing.T) {
	rep := do(t, `
target: {local: true}
rooms: {count: 1, publishers: 2, subscribers: 3}
media: {}
data: {rate: 20, size: 200, reliable: true}
load: {warmup: 1s, hold: 3s}
`)
	got := rep.Total.Received
	require.Positive(t, rep.Total.Sent.Messages)
	require.Positive(t, got.Messages)
	require.Zero(t, got.MessagesLost)
	require.Empty(t, rep.Errors)
}
