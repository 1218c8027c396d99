package unit_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/scenario/unit"
)

func TestBitrate(t *testing.T) {
	for text, want := range map[string]float64{
		"1.7Mbps": 1_700_000, "300kbps": 300_000, "64000": 64_000, "2 Mbit/s": 2_000_000,
		"1gbps": 1e9, " 5 bps ": 5, "12 kbit/s": 12_000, "1e6": 1e6, "0": 0, "3bit/s": 3,
	} {
		got, err := unit.Bitrate(text)
		require.NoError(t, err, text)
		require.InDelta(t, want, got, 1e-6, text)
	}
	for _, text := range []string{"", "fast", "1.7MB", "1.7Mbpss", "0x10", "NaN", "inf", "1_000", "Mbps", "1e308Gbps"} {
		_, err := unit.Bitrate(text)
		require.ErrorIs(t, err, unit.ErrBitrate, text)
	}
}

func TestShare(t *testing.T) {
	for text, want := range map[string]float64{"1%": .01, "0.01": .01, "100 %": 1, "0": 0, "0.1%": .001, "1": 1} {
		got, err := unit.Share(text)
		require.NoError(t, err, text)
		require.InDelta(t, want, got, 1e-12, text)
	}
	for _, text := range []string{"", "%", "1%%", "some", "infinity", "NaN%"} {
		_, err := unit.Share(text)
		require.ErrorIs(t, err, unit.ErrShare, text)
	}
}

func TestFormatBitrate(t *testing.T) {
	for bits, want := range map[int]string{
		1_700_000: "1.7Mbps", 48_000: "48kbps", 999: "999", 2_500_000_000: "2.5Gbps", 1_700_001: "1700.001kbps", 0: "0",
	} {
		require.Equal(t, want, unit.FormatBitrate(bits))
		back, err := unit.Bitrate(want)
		require.NoError(t, err)
		require.Equal(t, bits, int(math.Round(back)))
	}
}

func FuzzBitrate(f *testing.F) {
	f.Add("1.7Mbps")
	f.Add("1%")
	f.Fuzz(func(t *testing.T, text string) {
		for _, parse := range []func(string) (float64, error){unit.Bitrate, unit.Share} {
			if v, err := parse(text); err == nil {
				require.False(t, math.IsNaN(v) || math.IsInf(v, 0), text)
			}
		}
	})
}
