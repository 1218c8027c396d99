package clip_test

import (
	"testing"

	"github.com/pion/rtp/codecs"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/clip"
)

func layered(codec, mode string) clip.Spec {
	s := small(codec)
	s.SVC = mode
	return s
}

// only are the frames up to a layer.
func only(frames []clip.Frame, spatial, temporal int) []clip.Frame {
	var out []clip.Frame
	for _, f := range frames {
		if f.Spatial <= spatial && f.Temporal <= temporal {
			out = append(out, f)
		}
	}
	return out
}

// Who gets fewer temporal layers sees the very pictures of those: no frame
// depends on what was left out.
func TestTemporalLayersAreSeparable(t *testing.T) {
	for _, s := range []clip.Spec{layered(clip.VP8, clip.L1T2), layered(clip.VP8, clip.L1T3), layered(clip.VP9, clip.L1T2), layered(clip.VP9, clip.L1T3)} {
		t.Run(s.Codec+s.SVC, func(t *testing.T) {
			t.Parallel()
			c := makeClip(t, s)
			all := decoded(t, file(t, c, c.Frames))
			require.Len(t, all, 30)
			layers := 2
			if s.SVC == clip.L1T3 {
				layers = 3
			}
			for top := range layers - 1 {
				var want []string
				for i, f := range c.Frames {
					if f.Temporal <= top {
						want = append(want, all[i])
					}
				}
				require.Less(t, len(want), len(all))
				require.Equal(t, want, decoded(t, file(t, c, only(c.Frames, 0, top))), "up to layer %d", top)
			}
		})
	}
}

func TestVP9DescriptorsAreTheSFUs(t *testing.T) {
	c := makeClip(t, layered(clip.VP9, clip.L1T3))
	for i, f := range c.Frames {
		want := []int{0, 2, 1, 2}[i%15%4]
		for j, p := range f.Payloads {
			var d codecs.VP9Packet
			_, err := d.Unmarshal(p)
			require.NoError(t, err)
			require.True(t, d.I && d.L && !d.F)
			require.Equal(t, j == 0, d.B)
			require.Equal(t, j == len(f.Payloads)-1, d.E)
			require.Equal(t, !f.Key, d.P)
			require.Equal(t, want, int(d.TID))
			require.Equal(t, want > 0, d.U)
			require.Equal(t, f.Key && j == 0, d.V)
			if d.V {
				require.Equal(t, []uint16{320}, d.Width)
				require.Equal(t, []uint16{180}, d.Height)
				require.Equal(t, []uint8{0, 2, 1, 2}, d.PGTID)
				require.Equal(t, [][]uint8{{4}, {1}, {2}, {1}}, d.PGPDiff)
			}
		}
	}
}

func TestSpatialLayersAreSeparable(t *testing.T) {
	s := layered(clip.VP9, clip.L3T3Key)
	s.Width, s.Height, s.Bitrate = 640, 360, 800_000
	c := makeClip(t, s)
	require.Len(t, c.Frames, 90)
	require.Equal(t, 30, c.Pictures)
	check, err := clip.NewChecker(clip.VP9)
	require.NoError(t, err)
	for n, picture := range pictures(c.Frames) {
		require.Len(t, picture, 3)
		for i, f := range picture {
			require.Equal(t, i, f.Spatial)
			require.Equal(t, i == 2, f.Last)
			require.Equal(t, n%15 == 0 && i == 0, f.Key)
		}
		require.NoError(t, check.Frame(payloads(picture)))
		require.Equal(t, n%15 == 0, check.Key())
		w, h := check.Size()
		require.Equal(t, [2]int{640, 360}, [2]int{w, h})
	}
	// The lower layers alone, and fewer temporal ones: the same pictures.
	all := decoded(t, file(t, c, c.Frames))
	require.Len(t, all, 90)
	for _, top := range [][2]int{{0, 2}, {1, 2}, {2, 0}, {1, 1}} {
		var want []string
		for i, f := range c.Frames {
			if f.Spatial <= top[0] && f.Temporal <= top[1] {
				want = append(want, all[i])
			}
		}
		require.Equal(t, want, decoded(t, file(t, c, only(c.Frames, top[0], top[1]))), "up to %v", top)
	}
	// After a key picture the highest layer needs no lower one.
	var frames []clip.Frame
	var want []string
	for i, f := range c.Frames {
		if i < 3 || (i < 45 && f.Spatial == 2) {
			frames, want = append(frames, f), append(want, all[i])
		}
	}
	require.Equal(t, want, decoded(t, file(t, c, frames)))
}
