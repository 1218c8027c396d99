package clip

import (
	"context"
	"fmt"
	"strings"
)

// unit is what an encoder returned: one picture, one spatial layer of a picture, or one
// audio packet.
type unit struct {
	data              []byte
	picture           int // from 0
	spatial, temporal int
}

// encoded returns the spec's media, kept from an earlier run or newly encoded.
func encoded(ctx context.Context, dir string, s Spec) ([]unit, error) {
	switch {
	case s.SVC == L3T3Key:
		return kept(ctx, dir, ".ivf", s.svcenc(), s.readIVF)
	case s.Codec == H264:
		return kept(ctx, dir, ".h264", s.ffmpeg(), s.readAnnexB)
	case s.audio():
		return kept(ctx, dir, ".ogg", s.ffmpeg(), s.readOgg)
	}
	return kept(ctx, dir, ".ivf", s.ffmpeg(), s.readIVF)
}

// encoder returns ffmpeg's name of the encoder, one that encodes in real time: libaom has
// a good realtime mode, SVT-AV1 before 2.0 has none.
func (s Spec) encoder() string {
	switch s.Codec {
	case VP8:
		return "libvpx"
	case VP9:
		return "libvpx-vp9"
	case AV1:
		return "libaom-av1"
	case H264:
		return "libx264"
	}
	return "libopus"
}

// source is ffmpeg's filter for a moving picture or a tone. testsrc2 changes enough
// between frames that encoders reach their bitrate.
func (s Spec) source() string {
	if s.audio() {
		// Longer than needed, for the encoder's look-ahead.
		return fmt.Sprintf("sine=frequency=%d:sample_rate=48000:duration=%.3f", s.Tone, (s.Length + 10*opusFrame).Seconds())
	}
	return fmt.Sprintf("testsrc2=size=%dx%d:rate=%d", s.Width, s.Height, s.FPS)
}

// ffmpeg returns the job that encodes the spec with ffmpeg alone.
func (s Spec) ffmpeg() job {
	args := []string{"-f", "lavfi", "-i", s.source()}
	if s.audio() {
		args = append(args,
			"-ac", "2", "-c:a", s.encoder(), "-b:a", fmt.Sprint(s.Bitrate), "-vbr", "off",
			"-application", "audio", "-frame_duration", "20", "-page_duration", "20000", "-f", "ogg")
		return job{encoder: s.encoder(), args: args}
	}
	rate := fmt.Sprint(s.Bitrate)
	every := fmt.Sprint(s.every())
	args = append(args,
		"-frames:v", fmt.Sprint(s.frames()), "-pix_fmt", "yuv420p", "-c:v", s.encoder(),
		// Constant bitrate over half a second.
		"-b:v", rate, "-minrate", rate, "-maxrate", rate, "-bufsize", fmt.Sprint(s.Bitrate/2),
		// Key frames at fixed instants only: the longest interval is the shortest, too.
		"-g", every, "-keyint_min", every, "-force_key_frames", "expr:not(mod(n,"+every+"))",
	)
	switch s.Codec {
	case VP8:
		// With a positive -cpu-used the output would depend on the machine's load.
		// Several threads would spin while they wait for each other.
		args = append(args, "-threads", "1", "-deadline", "realtime", "-cpu-used", "-12", "-lag-in-frames", "0", "-auto-alt-ref", "0", "-drop-threshold", "0")
		args = append(args, s.layering()...)
		args = append(args, "-f", "ivf")
	case VP9:
		args = append(args, "-deadline", "realtime", "-cpu-used", "8", "-row-mt", "1", "-lag-in-frames", "0", "-auto-alt-ref", "0", "-drop-threshold", "0")
		args = append(args, s.layering()...)
		args = append(args, "-f", "ivf")
	case AV1:
		args = append(args, "-usage", "realtime", "-cpu-used", "8", "-row-mt", "1", "-lag-in-frames", "0", "-f", "ivf")
	case H264:
		args = append(args,
			"-profile:v", "baseline", "-preset", "veryfast", "-tune", "zerolatency", "-bf", "0",
			// aud marks access units in the file; it is not sent.
			"-x264-params", "slices=1:sliced-threads=0:scenecut=0:aud=1:repeat-headers=1", "-f", "h264")
	}
	return job{encoder: s.encoder(), args: args}
}

// layering returns ffmpeg's arguments for temporal layers: libvpx's layering modes 2 (two
// layers: 0 1) and 3 (three layers: 0 2 1 2), which restart at each key frame. The shares
// of the bitrate are libwebrtc's.
func (s Spec) layering() []string {
	var mode int
	var share []int
	switch s.SVC {
	case L1T2:
		mode, share = 2, []int{60, 100}
	case L1T3:
		mode, share = 3, []int{40, 60, 100}
	default:
		return nil
	}
	var rates, decimators []string
	for i, p := range share {
		rates = append(rates, fmt.Sprint(s.Bitrate/1000*p/100))
		decimators = append(decimators, fmt.Sprint(1<<(len(share)-1-i)))
	}
	ids := strings.Trim(strings.ReplaceAll(fmt.Sprint(s.pattern()), " ", ","), "[]")
	return []string{
		// The entropy coder must not depend on frames of layers that a receiver does not
		// get.
		"-error-resilient", "default",
		"-ts-parameters", fmt.Sprintf("ts_number_layers=%d:ts_target_bitrate=%s:ts_rate_decimator=%s:ts_periodicity=%d:ts_layer_id=%s:ts_layering_mode=%d",
			len(share), strings.Join(rates, ","), strings.Join(decimators, ","), len(s.pattern()), ids, mode),
	}
}

// pattern returns the temporal layers of successive pictures, from a key frame on.
func (s Spec) pattern() []int {
	switch s.SVC {
	case L1T2:
		return []int{0, 1}
	case L1T3, L3T3Key:
		return []int{0, 2, 1, 2}
	}
	return []int{0}
}

// temporal returns the temporal layer of the nth picture.
func (s Spec) temporal(n int) int {
	p := s.pattern()
	return p[n%s.every()%len(p)]
}

// spatials returns the number of spatial layers.
func (s Spec) spatials() int {
	if s.SVC == L3T3Key {
		return 3
	}
	return 1
}
