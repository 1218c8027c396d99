package scenario_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
)

func TestLibrary(t *testing.T) {
	require.Equal(t, []string{
		"api", "arrival", "audio-room", "churn", "data", "livestream", "meeting", "recording", "screenshare-av1",
		"smoke", "soak", "svc-vp9", "tunnel", "turn-tax", "webinar-spike",
	}, scenario.Library())
	for _, name := range scenario.Library() {
		t.Run(name, func(t *testing.T) {
			s, err := scenario.Named(name)
			require.NoError(t, err)
			require.Equal(t, name, s.Name)
			require.NotEmpty(t, s.Thresholds, "a scenario has thresholds")
			require.Equal(t, s.Kind == result.KindMedia || s.Kind == result.KindRecording, s.Load.Warmup > 0)
			require.NotEmpty(t, scenario.About(name))

			text, err := scenario.Source(name)
			require.NoError(t, err)
			require.True(t, strings.HasPrefix(string(text), "# "), "it begins with its explanation")
		})
	}
}

func TestNamedUnknown(t *testing.T) {
	_, err := scenario.Named("../model")
	require.ErrorIs(t, err, scenario.ErrUnknown)
	require.Contains(t, err.Error(), "smoke")
	require.Empty(t, scenario.About("none"))
}

// A written scenario reads back equal, as YAML and as JSON.
func TestWritingAndReadingBack(t *testing.T) {
	for _, name := range scenario.Library() {
		s, err := scenario.Named(name)
		require.NoError(t, err)
		y, err := s.YAML()
		require.NoError(t, err)
		j, err := s.JSON()
		require.NoError(t, err)
		for _, text := range []string{string(y), string(j)} {
			again, err := scenario.Parse("again.yaml", strings.NewReader(text))
			require.NoError(t, err, text)
			y2, err := again.YAML()
			require.NoError(t, err)
			require.Equal(t, string(y), string(y2))
			require.EqualExportedValues(t, *s, *again)
		}
	}
}
