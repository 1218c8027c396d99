package clip_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/clip"
)

// frame cuts fuzzed bytes into payloads: a length byte before each.
func frame(data []byte) [][]byte {
	var out [][]byte
	for len(data) > 0 {
		n := min(int(data[0]), len(data)-1)
		out = append(out, data[1:1+n])
		data = data[1+n:]
	}
	return out
}

// FuzzChecker: whatever comes, a checker answers; and only a good frame changes
// what it says of the stream.
func FuzzChecker(f *testing.F) {
	kinds := []string{clip.VP8, clip.VP9, clip.AV1, clip.H264, clip.Opus}
	for i, codec := range kinds {
		s := small(codec)
		if codec != clip.Opus {
			s.Width, s.Height, s.Bitrate = 64, 64, 20_000
		}
		c := makeClip(f, s)
		for _, at := range []int{0, 1} {
			var seed []byte
			for _, p := range c.Frames[at].Payloads {
				p = p[:min(len(p), 255)]
				seed = append(append(seed, byte(len(p))), p...)
			}
			f.Add(byte(i), seed)
		}
	}
	f.Add(byte(3), []byte{12, 0x67, 0x64, 0, 0x1f, 0xac, 0xd9, 0x40, 0x50, 5, 0xbb, 1, 0x10})
	f.Fuzz(func(t *testing.T, kind byte, data []byte) {
		c := newChecker(t, kinds[int(kind)%len(kinds)])
		err := c.Frame(frame(data))
		w, h := c.Size()
		if err != nil {
			require.ErrorIs(t, err, clip.ErrMedia)
			require.False(t, c.Key())
			require.Zero(t, w+h)
			return
		}
		require.GreaterOrEqual(t, w, 0)
		require.GreaterOrEqual(t, h, 0)
		require.Equal(t, w == 0, h == 0)
		if c.Key() && kinds[int(kind)%len(kinds)] != clip.Opus {
			require.Positive(t, w)
		}
	})
}
