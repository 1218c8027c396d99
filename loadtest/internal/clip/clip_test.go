package clip_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"

	livekit "github.com/livekit/protocol/codecs"
	"github.com/pion/rtp/codecs"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/clip"
)

var video = []string{clip.VP8, clip.VP9, clip.AV1, clip.H264}

func TestEachCodecIsWhole(t *testing.T) {
	for _, codec := range append(video, clip.Opus) {
		t.Run(codec, func(t *testing.T) {
			t.Parallel()
			c := makeClip(t, small(codec))
			want := 30
			if codec == clip.Opus {
				want = 100
			}
			require.Len(t, c.Frames, want)
			require.Equal(t, 2*time.Second, c.Length)
			require.Equal(t, want, c.Pictures)
			require.Equal(t, want, c.Bases)

			var bytes int64
			var at time.Duration
			for i, f := range c.Frames {
				require.Equal(t, at, f.At)
				at += f.Duration
				require.True(t, f.Last)
				require.Equal(t, codec == clip.Opus || i%15 == 0, f.Key, "key frame %d", i)
				equalSizes(t, codec, f)
				for _, p := range f.Payloads {
					require.LessOrEqual(t, len(p), clip.MTU)
					bytes += int64(len(p))
				}
			}
			require.Equal(t, c.Length, at)
			require.Equal(t, bytes, c.PayloadBytes)
			rate := float64(bytes) * 8 / c.Length.Seconds()
			require.InEpsilon(t, c.Spec.Bitrate, rate, 0.25, "bit/s")

			// As many pictures as frames: none hidden, none dropped, none broken.
			sums := decoded(t, file(t, c, c.Frames))
			if codec == clip.Opus {
				require.NotEmpty(t, sums)
				return
			}
			require.Len(t, sums, want)
			require.NotEqual(t, sums[0], sums[1], "the picture moves")
		})
	}
}

// equalSizes is the rule that UDP GSO needs.
func equalSizes(t *testing.T, codec string, f clip.Frame) {
	t.Helper()
	p := f.Payloads
	if codec == clip.H264 && f.Key {
		p = p[1:] // after the parameter sets
	}
	for i := range len(p) - 1 {
		require.Len(t, p[i], len(p[0]), "payload %d of %d", i, len(p))
	}
	require.LessOrEqual(t, len(p[len(p)-1]), len(p[0]))
}

// A looped clip goes on: from its end back to its begin decoders see a key
// frame and counters that were counted on.
func TestALoopDecodes(t *testing.T) {
	for _, codec := range video {
		t.Run(codec, func(t *testing.T) {
			t.Parallel()
			c := makeClip(t, small(codec))
			require.Len(t, decoded(t, file(t, c, append(c.Frames, c.Frames...))), 60)
		})
	}
}

func TestPictureIDsCanBeRewritten(t *testing.T) {
	for _, s := range []clip.Spec{small(clip.VP8), small(clip.VP9), layered(clip.VP8, clip.L1T3), layered(clip.VP9, clip.L1T2)} {
		t.Run(s.Codec+s.SVC, func(t *testing.T) {
			t.Parallel()
			c := makeClip(t, s)
			const round = 3
			bases := -1
			for i, f := range c.Frames {
				if f.Temporal == 0 {
					bases++
				}
				for _, p := range f.Payloads {
					require.Equal(t, 0x8000|i, int(binary.BigEndian.Uint16(p[f.PictureID:])))
					q := append([]byte{}, p...)
					id := (i + round*c.Pictures) & 0x7FFF
					binary.BigEndian.PutUint16(q[f.PictureID:], 0x8000|uint16(id))
					if f.TL0 >= 0 {
						require.Equal(t, byte(bases), p[f.TL0])
						q[f.TL0] += byte(round * c.Bases)
					}
					gotID, gotTL0, data := descriptor(t, s.Codec, q)
					require.Equal(t, id, gotID)
					if f.TL0 >= 0 {
						require.Equal(t, byte(bases+round*c.Bases), gotTL0)
					}
					_, _, was := descriptor(t, s.Codec, p)
					require.Equal(t, was, data, "the media is as it was")
				}
			}
			require.Equal(t, bases+1, c.Bases)
			require.Equal(t, s.SVC == "", c.Frames[0].TL0 == -1)
		})
	}
}

func descriptor(t *testing.T, codec string, p []byte) (id int, tl0 byte, data []byte) {
	t.Helper()
	if codec == clip.VP8 {
		var d codecs.VP8Packet
		data, err := d.Unmarshal(p)
		require.NoError(t, err)
		return int(d.PictureID), d.TL0PICIDX, data
	}
	var d codecs.VP9Packet
	data, err := d.Unmarshal(p)
	require.NoError(t, err)
	return int(d.PictureID), d.TL0PICIDX, data
}

func TestSimulcastLayers(t *testing.T) {
	needFFmpeg(t)
	s := small(clip.VP8)
	s.Width, s.Height, s.Bitrate = 640, 360, 1_000_000
	layers, err := clip.Layers(t.Context(), t.TempDir(), s, 3)
	require.NoError(t, err)
	require.Len(t, layers, 3)
	for i, want := range [][2]int{{160, 90}, {320, 180}, {640, 360}} {
		l := layers[i]
		require.Equal(t, want, [2]int{l.Spec.Width, l.Spec.Height})
		require.Len(t, l.Frames, len(layers[2].Frames))
		for j, f := range l.Frames {
			require.Equal(t, layers[2].Frames[j].Key, f.Key)
			require.Equal(t, layers[2].Frames[j].At, f.At)
		}
		if i > 0 {
			require.Less(t, 2*layers[i-1].PayloadBytes, l.PayloadBytes)
		}
		check, err := clip.NewChecker(s.Codec)
		require.NoError(t, err)
		require.NoError(t, check.Frame(l.Frames[0].Payloads))
		w, h := check.Size()
		require.Equal(t, want, [2]int{w, h})
	}
}

func TestAClipIsMadeOnce(t *testing.T) {
	needFFmpeg(t)
	dir := t.TempDir()
	first, err := clip.Make(t.Context(), dir, small(clip.H264))
	require.NoError(t, err)
	made, err := filepath.Glob(filepath.Join(dir, "*.h264"))
	require.NoError(t, err)
	require.Len(t, made, 1)

	path := os.Getenv("PATH")
	t.Setenv("PATH", t.TempDir()) // no ffmpeg
	second, err := clip.Make(t.Context(), dir, small(clip.H264))
	require.NoError(t, err)
	require.Equal(t, first, second)

	// A kept file that lost its end is not used, and made once more.
	require.NoError(t, os.Truncate(made[0], 1000))
	_, err = clip.Make(t.Context(), dir, small(clip.H264))
	require.ErrorAs(t, err, new(*clip.MissingError))
	t.Setenv("PATH", path)
	third, err := clip.Make(t.Context(), dir, small(clip.H264))
	require.NoError(t, err)
	require.Len(t, third.Frames, 30)
	rest, err := filepath.Glob(filepath.Join(dir, "*.part"))
	require.NoError(t, err)
	require.Empty(t, rest)
}

func TestWhatIsMissingIsNamed(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	_, err := clip.Make(t.Context(), dir, small(clip.VP8))
	var missing *clip.MissingError
	require.ErrorAs(t, err, &missing)
	require.Equal(t, "ffmpeg", missing.Program)
	require.Contains(t, missing.Error(), "apt-get install")

	// An ffmpeg without encoders, and one that fails.
	script := "#!/bin/sh\ncase \"$*\" in *-encoders) echo \" V....D $HAS  x\";; *) echo no good >&2; exit 3;; esac\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ffmpeg"), []byte(script), 0o700))
	_, err = clip.Make(t.Context(), dir, small(clip.VP8))
	require.ErrorAs(t, err, &missing)
	require.Contains(t, missing.Program, "libvpx")

	t.Setenv("HAS", "libvpx")
	_, err = clip.Make(t.Context(), dir, small(clip.VP8))
	var failed *clip.EncoderError
	require.ErrorAs(t, err, &failed)
	require.Equal(t, "no good", failed.Output)
}

func TestSpecsThatCannotBe(t *testing.T) {
	for field, spec := range map[string]clip.Spec{
		"Codec":       {Codec: "h265"},
		"Width":       {Codec: clip.VP8, Width: 321, Height: 180},
		"Height":      {Codec: clip.AV1, Width: 320, Height: 8},
		"FPS":         {Codec: clip.VP8, FPS: 61},
		"Bitrate":     {Codec: clip.Opus, Bitrate: 1},
		"Tone":        {Codec: clip.Opus, Tone: 1},
		"Length":      {Codec: clip.VP8, Length: time.Hour},
		"KeyInterval": {Codec: clip.VP8, KeyInterval: time.Millisecond},
		"SVC":         {Codec: clip.H264, SVC: clip.L1T3},
	} {
		_, err := clip.Make(t.Context(), t.TempDir(), spec)
		require.ErrorIs(t, err, clip.ErrSpec, field)
		var is *clip.SpecError
		require.ErrorAs(t, err, &is, field)
		require.Equal(t, field, is.Field)
	}
	_, err := clip.Layers(t.Context(), t.TempDir(), clip.Spec{Codec: clip.VP8}, 4)
	require.ErrorIs(t, err, clip.ErrSpec)
	_, err = clip.Layers(t.Context(), t.TempDir(), clip.Spec{Codec: clip.VP8, Width: 32, Height: 32}, 3)
	require.ErrorIs(t, err, clip.ErrSpec)
	_, err = clip.NewChecker("")
	require.ErrorIs(t, err, clip.ErrSpec)
}

// A clip's codec is one that LiveKit has, to the letter.
func TestCodecsAreLiveKits(t *testing.T) {
	for _, codec := range append([]string{clip.Opus}, video...) {
		c := makeClip(t, small(codec))
		var found bool
		for _, p := range append(livekit.VideoCodecsParameters, livekit.OpusCodecParameters) {
			found = found || p.MimeType == c.MIME && p.SDPFmtpLine == c.Fmtp && int(p.ClockRate) == c.ClockRate && int(p.Channels) == c.Channels
		}
		require.True(t, found, "%s %q", c.MIME, c.Fmtp)
	}
}
