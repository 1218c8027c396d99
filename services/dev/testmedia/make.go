package testmedia

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"github.com/pion/webrtc/v4/pkg/media/ivfreader"
	"github.com/pion/webrtc/v4/pkg/media/oggreader"

	"github.com/openova-io/bp-relay/services/dev/process"
)

// Spec says what to encode. Its zero value is 720p at 30 frames a second and
// 1.7 Mbit/s with a 440 Hz tone, ten seconds long.
type Spec struct {
	Width, Height int
	FPS           int
	Bitrate       int // of the picture, kbit/s
	Tone          int // Hz
	Length        time.Duration
}

func (s Spec) filled() Spec {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&s.Width, 1280)
	def(&s.Height, 720)
	def(&s.FPS, 30)
	def(&s.Bitrate, 1700)
	def(&s.Tone, 440)
	if s.Length == 0 {
		s.Length = 10 * time.Second
	}
	return s
}

// Frame is one encoded picture or one packet of audio.
type Frame struct {
	Data     []byte
	Duration time.Duration
}

// Clip is encoded media, ready to be sent in a loop. It is immutable, so several
// publishers can share it.
type Clip struct {
	Spec  Spec
	Video []Frame // VP8; begins with a keyframe, one each half second (PLI is not answered)
	Audio []Frame // Opus, 20 ms each
}

// Make returns the clip of a spec. ffmpeg encodes it once; dir keeps it.
func Make(ctx context.Context, dir string, spec Spec) (*Clip, error) {
	spec = spec.filled()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("media folder: %w", err)
	}
	seconds := fmt.Sprintf("%.3f", spec.Length.Seconds())
	picture := fmt.Sprintf("testsrc2=size=%dx%d:rate=%d:duration=%s", spec.Width, spec.Height, spec.FPS, seconds)
	clock := fmt.Sprintf(`,drawtext=text='%%{pts\:hms}':fontsize=%d:x=w/2-text_w/2:y=h/3:fontcolor=white:box=1:boxcolor=black`, spec.Height/8)
	encode := []string{
		"-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "10", "-g", fmt.Sprint(max(spec.FPS/2, 1)),
		"-b:v", fmt.Sprintf("%dk", spec.Bitrate), "-maxrate", fmt.Sprintf("%dk", spec.Bitrate), "-bufsize", fmt.Sprintf("%dk", spec.Bitrate),
	}
	video, err := file(ctx, dir, ".ivf", append([]string{"-f", "lavfi", "-i", picture + clock}, encode...))
	if _, is := errors.AsType[*exec.ExitError](err); is {
		// This machine has no font. The pattern itself shows a counter.
		video, err = file(ctx, dir, ".ivf", append([]string{"-f", "lavfi", "-i", picture}, encode...))
	}
	if err != nil {
		return nil, err
	}
	audio, err := file(ctx, dir, ".ogg", []string{
		"-f", "lavfi", "-i", fmt.Sprintf("sine=frequency=%d:sample_rate=48000:duration=%s", spec.Tone, seconds),
		"-ac", "2", "-c:a", "libopus", "-b:a", "48k", "-page_duration", "20000",
	})
	if err != nil {
		return nil, err
	}
	clip := &Clip{Spec: spec}
	if clip.Video, err = readIVF(video); err != nil {
		return nil, err
	}
	if clip.Audio, err = readOgg(audio); err != nil {
		return nil, err
	}
	return clip, nil
}

// file returns the path of ffmpeg's output for these arguments. It runs ffmpeg if
// the file does not exist.
func file(ctx context.Context, dir, ext string, args []string) (string, error) {
	sum := sha256.New()
	for _, a := range args {
		_, _ = fmt.Fprintf(sum, "%s\x00", a)
	}
	path := filepath.Join(dir, hex.EncodeToString(sum.Sum(nil))[:16]+ext)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	// If two processes need the same file, one of them makes it.
	lock := flock.New(path + ".lock")
	if _, err := lock.TryLockContext(ctx, 100*time.Millisecond); err != nil {
		return "", fmt.Errorf("lock media: %w", err)
	}
	defer func() { _ = lock.Unlock() }()
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	part := path + ".part" + ext
	cmd := exec.CommandContext(ctx, "ffmpeg", append(append([]string{"-v", "error", "-y"}, args...), part)...)
	if _, err := process.Output(ctx, cmd); err != nil {
		_ = os.Remove(part)
		return "", err
	}
	if err := os.Rename(part, path); err != nil {
		return "", fmt.Errorf("keep media: %w", err)
	}
	return path, nil
}

func readIVF(path string) ([]Frame, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	r, head, err := ivfreader.NewWith(f)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	duration := time.Second * time.Duration(head.TimebaseNumerator) / time.Duration(head.TimebaseDenominator)
	var frames []Frame
	for {
		data, _, err := r.ParseNextFrame()
		if errors.Is(err, io.EOF) {
			return frames, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		frames = append(frames, Frame{Data: data, Duration: duration})
	}
}

func readOgg(path string) ([]Frame, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	r, _, err := oggreader.NewWith(f)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	var frames []Frame
	for {
		data, _, err := r.ParseNextPage()
		if errors.Is(err, io.EOF) {
			return frames, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		if len(data) >= 8 && string(data[:8]) == "OpusTags" {
			continue
		}
		frames = append(frames, Frame{Data: data, Duration: 20 * time.Millisecond})
	}
}
