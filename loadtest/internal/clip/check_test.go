package clip_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/clip"
)

func newChecker(t testing.TB, codec string) clip.Checker {
	t.Helper()
	c, err := clip.NewChecker(codec)
	require.NoError(t, err)
	return c
}

func TestWhatWasMadeIsAccepted(t *testing.T) {
	for _, s := range []clip.Spec{
		small(clip.VP8), small(clip.VP9), small(clip.AV1), small(clip.H264), small(clip.Opus),
		layered(clip.VP8, clip.L1T3), layered(clip.VP9, clip.L1T3),
	} {
		t.Run(s.Codec+s.SVC, func(t *testing.T) {
			t.Parallel()
			c, check := makeClip(t, s), newChecker(t, s.Codec)
			w, h := check.Size()
			require.Zero(t, w+h)
			require.False(t, check.Key())
			for i, f := range c.Frames {
				require.NoError(t, check.Frame(f.Payloads), "frame %d", i)
				require.Equal(t, f.Key, check.Key(), "frame %d", i)
				w, h := check.Size()
				require.Equal(t, [2]int{s.Width, s.Height}, [2]int{w, h})
			}
		})
	}
}

// with is a copy of a frame's payloads in which one was changed.
func with(p [][]byte, n int, change func(b []byte) []byte) [][]byte {
	out := slices.Clone(p)
	out[n] = change(slices.Clone(p[n]))
	return out
}

func flip(at int, mask byte) func([]byte) []byte {
	return func(b []byte) []byte {
		b[at] ^= mask
		return b
	}
}

// Every way to lose a packet, or half of one, or to change a header.
func TestWhatIsNotWholeIsRefused(t *testing.T) {
	type broken struct {
		name  string
		frame [][]byte
	}
	for _, codec := range video {
		t.Run(codec, func(t *testing.T) {
			t.Parallel()
			s := small(codec)
			s.Bitrate = 1_500_000 // several packets in each frame
			c := makeClip(t, s)
			key, next := c.Frames[0].Payloads, c.Frames[1].Payloads
			require.Greater(t, len(key), 3)
			for _, f := range c.Frames[1:] {
				if !f.Key && len(f.Payloads) > len(next) {
					next = f.Payloads
				}
			}
			require.Greater(t, len(next), 1)
			last := len(key) - 1
			cases := []broken{
				{"nothing", nil},
				{"an empty packet", with(key, 1, func([]byte) []byte { return []byte{} })},
				{"no first packet", key[1:]},
				{"only a descriptor", [][]byte{key[0][:4]}},
				{"two frames", append(slices.Clone(key), key...)},
			}
			if codec != clip.VP8 {
				// In VP8 nothing but the RTP marker bit tells the end.
				cases = append(cases, broken{"no last packet", key[:last]}, broken{"no last packet", next[:len(next)-1]})
			}
			switch codec {
			case clip.VP8:
				cases = append(cases,
					broken{"no start code", with(key, 0, flip(4+3, 0x01))},
					broken{"no start of a frame", with(key, 0, flip(0, 0x10))},
					broken{"a packet of another frame", append(slices.Clone(key), next[1])},
					broken{"no size", with(key, 0, func(b []byte) []byte { clear(b[4+6 : 4+10]); return b })},
					broken{"less than its first partition", [][]byte{key[0][:40]}},
				)
			case clip.VP9:
				cases = append(cases,
					broken{"no frame marker", with(key, 0, flip(descriptorVP9, 0x80))},
					broken{"no sync code", with(key, 0, flip(descriptorVP9+1, 0x10))},
					broken{"a key frame that is predicted", with(key, 0, flip(0, 0x40))},
					broken{"no begin", with(key, 0, flip(0, 0x08))},
					broken{"no end", with(key, last, flip(0, 0x04))},
					broken{"a packet of another picture", with(key, 1, flip(2, 1))},
				)
			case clip.AV1:
				cases = append(cases,
					broken{"another OBU than a sequence header", with(key, 0, flip(2, 0x20))},
					broken{"the forbidden bit", with(key, 0, flip(2, 0x80))},
					broken{"an element that is too long", with(key, 0, flip(1, 0x70))},
					broken{"a begin in the middle", with(key, 1, flip(0, 0x80))},
				)
			case clip.H264:
				cases = append(cases,
					broken{"no parameter sets", key[1:]},
					broken{"no start", append(slices.Clone(key[:1]), key[2:]...)},
					broken{"the forbidden bit", with(key, 1, flip(0, 0x80))},
					broken{"another type within", with(key, 2, flip(1, 0x01))},
					broken{"half a parameter set", with(key, 0, func(b []byte) []byte { return b[:len(b)-1] })},
					broken{"an IDR slice that is predicted", with(key, 1, flip(2, 0x7F))},
				)
			}
			for _, b := range cases {
				require.ErrorIs(t, newChecker(t, codec).Frame(b.frame), clip.ErrMedia, b.name)
			}
			check := newChecker(t, codec)
			require.NoError(t, check.Frame(key))
			require.NoError(t, check.Frame(next))
		})
	}
}

// descriptorVP9 is where a key frame's data begin: three bytes and a structure
// of 5 + 1 + 2.
const descriptorVP9 = 3 + 8

func TestOpusPackets(t *testing.T) {
	good := map[string][]byte{
		"silence":           {0xf8, 0xff, 0xfe},
		"no sound":          {0xf8},
		"two of one length": {0xf9, 1, 2, 3, 4},
		"two of two":        {0xfa, 1, 2, 3, 4},
		"three, constant":   {0xfb, 3, 1, 2, 3},
		"three, variable":   {0xfb, 0x83, 1, 2, 9, 9, 9, 9},
		"with padding":      {0xfb, 0x41, 2, 7, 0, 0},
		"6 x 20 ms":         {0xfb, 6, 1, 2, 3, 4, 5, 6},
	}
	for name, p := range good {
		c := newChecker(t, clip.Opus)
		require.NoError(t, c.Frame([][]byte{p}), name)
		require.True(t, c.Key())
	}
	bad := map[string][][]byte{
		"two packets":               {{0xf8}, {0xf8}},
		"too long":                  {make([]byte, 1277)},
		"two, odd":                  {{0xf9, 1, 2, 3}},
		"two, no length":            {{0xfa}},
		"two, half a length":        {{0xfa, 252}},
		"two, less than the length": {{0xfa, 5, 1}},
		"many, no count":            {{0xfb}},
		"many, none":                {{0xfb, 0}},
		"many, unequal":             {{0xfb, 3, 1, 2}},
		"many, no lengths":          {{0xfb, 0x83, 1}},
		"many, less than lengths":   {{0xfb, 0x82, 9, 1}},
		"padding without length":    {{0xfb, 0x41}},
		"more padding than packet":  {{0xfb, 0x41, 9, 0}},
		"140 ms":                    {{0xfb, 7, 1, 2, 3, 4, 5, 6, 7}},
	}
	for name, p := range bad {
		require.ErrorIs(t, newChecker(t, clip.Opus).Frame(p), clip.ErrMedia, name)
	}
}
