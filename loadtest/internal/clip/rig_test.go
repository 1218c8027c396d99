package clip_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"
	"github.com/pion/webrtc/v4/pkg/media/oggwriter"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/clip"
)

// small is a clip that takes a moment to make: 2 s, a key frame each second.
func small(codec string) clip.Spec {
	s := clip.Spec{Codec: codec, Length: 2 * time.Second}
	if codec != clip.Opus {
		s.Width, s.Height, s.FPS, s.Bitrate, s.KeyInterval = 320, 180, 15, 300_000, time.Second
	}
	return s
}

func needFFmpeg(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("ffmpeg"); err != nil {
		t.Skip("ffmpeg is missing: apt-get install ffmpeg")
	}
}

func makeClip(t testing.TB, s clip.Spec) *clip.Clip {
	t.Helper()
	needFFmpeg(t)
	ctx, dir := t.Context(), t.TempDir()
	c, err := clip.Make(ctx, dir, s)
	if missing, is := errors.AsType[*clip.MissingError](err); is {
		t.Skip(missing)
	}
	require.NoError(t, err)
	return c
}

// bitstream puts a frame together again, with pion's depacketisers.
func bitstream(t testing.TB, codec string, f clip.Frame) []byte {
	t.Helper()
	var d rtp.Depacketizer
	switch codec {
	case clip.VP8:
		d = &codecs.VP8Packet{}
	case clip.VP9:
		d = &codecs.VP9Packet{}
	case clip.AV1:
		d = &codecs.AV1Depacketizer{}
	case clip.H264:
		d = &codecs.H264Packet{}
	case clip.Opus:
		d = &codecs.OpusPacket{}
	}
	var out []byte
	for _, p := range f.Payloads {
		data, err := d.Unmarshal(p)
		require.NoError(t, err)
		out = append(out, data...)
	}
	return out
}

// file writes frames as a file that ffmpeg reads.
func file(t testing.TB, c *clip.Clip, frames []clip.Frame) string {
	t.Helper()
	var out bytes.Buffer
	name := "out.ivf"
	switch c.Spec.Codec {
	case clip.H264:
		name = "out.h264"
		for _, f := range frames {
			out.Write(bitstream(t, c.Spec.Codec, f))
		}
	case clip.Opus:
		name = "out.ogg"
		w, err := oggwriter.NewWith(&out, 48000, 2)
		require.NoError(t, err)
		for i, f := range frames {
			require.NoError(t, w.WriteRTP(&rtp.Packet{Header: rtp.Header{Timestamp: uint32(i * 960)}, Payload: bitstream(t, c.Spec.Codec, f)}))
		}
		require.NoError(t, w.Close())
	default:
		fourcc := map[string]string{clip.VP8: "VP80", clip.VP9: "VP90", clip.AV1: "AV01"}[c.Spec.Codec]
		head := make([]byte, 32)
		copy(head, "DKIF\x00\x00\x20\x00"+fourcc)
		binary.LittleEndian.PutUint16(head[12:], uint16(c.Spec.Width))
		binary.LittleEndian.PutUint16(head[14:], uint16(c.Spec.Height))
		binary.LittleEndian.PutUint32(head[16:], uint32(c.Spec.FPS))
		binary.LittleEndian.PutUint32(head[20:], 1)
		out.Write(head)
		for i, f := range frames {
			data := bitstream(t, c.Spec.Codec, f)
			if c.Spec.Codec == clip.AV1 {
				data = append([]byte{0x12, 0}, data...) // the temporal delimiter, which RTP does not carry
			}
			head := make([]byte, 12)
			binary.LittleEndian.PutUint32(head, uint32(len(data)))
			binary.LittleEndian.PutUint64(head[4:], uint64(i))
			out.Write(head)
			out.Write(data)
		}
	}
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, out.Bytes(), 0o600))
	return path
}

// decoded is the MD5 sum of each picture, or piece of sound, that ffmpeg
// decodes: any complaint of its decoder fails the test.
func decoded(t testing.TB, path string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "ffmpeg", "-nostdin", "-v", "warning", "-xerror", "-err_detect", "explode",
		"-i", path, "-fps_mode", "passthrough", "-autoscale", "0", "-f", "framemd5", "-")
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	require.NoError(t, cmd.Run(), "%s", complaints.String())
	// An IVF or Annex B file has no duration, of which ffmpeg may warn.
	var said []string
	for line := range strings.Lines(complaints.String()) {
		if !strings.Contains(line, "Estimating duration from bitrate") {
			said = append(said, line)
		}
	}
	require.Empty(t, said)
	var sums []string
	for line := range strings.Lines(out.String()) {
		if !strings.HasPrefix(line, "#") {
			f := strings.Split(strings.TrimSpace(line), ",")
			sums = append(sums, strings.TrimSpace(f[len(f)-1]))
		}
	}
	return sums
}

// pictures groups frames by picture: spatial layers together.
func pictures(frames []clip.Frame) [][]clip.Frame {
	var out [][]clip.Frame
	for f := range slices.Values(frames) {
		if len(out) == 0 || out[len(out)-1][0].At != f.At {
			out = append(out, nil)
		}
		out[len(out)-1] = append(out[len(out)-1], f)
	}
	return out
}

// payloads are all of one picture.
func payloads(picture []clip.Frame) [][]byte {
	var out [][]byte
	for _, f := range picture {
		out = append(out, f.Payloads...)
	}
	return out
}
