package plan_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/clip"
	"github.com/openova-io/bp-relay/loadtest/internal/plan"
)

// TestLoadOfRealClips compares the computed load with real clips.
func TestLoadOfRealClips(t *testing.T) {
	for _, codec := range []string{"vp8", "h264"} {
		l, err := plan.LoadOf(parse(t, "rooms: {count: 1, publishers: 1, subscribers: 1}\nmedia: {video: {codec: "+codec+", bitrate: 500kbps, width: 640, height: 360}}"))
		require.NoError(t, err)
		c, err := clip.Make(t.Context(), t.TempDir(), clip.Spec{Codec: codec, Width: 640, Height: 360, FPS: 30, Bitrate: 500_000})
		if _, ok := errors.AsType[*clip.MissingError](err); ok {
			t.Skip(err)
		}
		require.NoError(t, err)
		packets, bits := 0, 0
		for _, f := range c.Frames {
			for _, p := range f.Payloads {
				packets++
				bits += 8 * (len(p) + 48)
			}
		}
		seconds := float64(len(c.Frames)) / 30
		t.Logf("%s: %.0f packets/s and %.0f bit/s, planned %.0f and %.0f", codec, float64(packets)/seconds, float64(bits)/seconds, l.SentPackets, l.SentBits)
		require.InEpsilon(t, float64(packets)/seconds, l.SentPackets, .15)
		require.InEpsilon(t, float64(bits)/seconds, l.SentBits, .1)
	}
}
