package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	recordingv1 "github.com/openova-io/bp-relay/gen/relay/recording/v1"
	"github.com/openova-io/bp-relay/services/dev/process"
)

// The kinds of tracks, as ffprobe calls them.
const (
	video = "video"
	audio = "audio"
)

func kindOf(t *recordingv1.Track) (string, error) {
	kind, _, _ := strings.Cut(t.GetMediaType(), "/")
	if kind != video && kind != audio {
		return "", fmt.Errorf("%s is %q: want video or audio", t.GetStream(), t.GetMediaType())
	}
	return kind, nil
}

// probed is ffprobe's description of a file.
type probed struct {
	Streams []struct {
		Type       string `json:"codec_type"`
		Codec      string `json:"codec_name"`
		Width      int    `json:"width"`
		Height     int    `json:"height"`
		SampleRate string `json:"sample_rate"`
		Channels   int    `json:"channels"`
	} `json:"streams"`
	Packets []struct {
		Time     string `json:"pts_time"`
		Duration string `json:"duration_time"`
	} `json:"packets"`
}

// probe has ffprobe check codec and size. It computes the duration from the times
// of the packets: a file that was only appended to has none in its header.
func (r *run) probe(ctx context.Context, path, kind string, least time.Duration) (string, error) {
	out, err := r.judge(ctx, "ffprobe", "-v", "error", "-of", "json", "-show_entries",
		"stream=codec_type,codec_name,width,height,sample_rate,channels:packet=pts_time,duration_time", path)
	if err != nil {
		return "", err
	}
	var p probed
	if err := json.Unmarshal(out, &p); err != nil {
		return "", fmt.Errorf("ffprobe's answer: %w", err)
	}
	return p.check(kind, least)
}

func (p probed) check(kind string, least time.Duration) (string, error) {
	if len(p.Streams) != 1 || len(p.Packets) == 0 {
		return "", fmt.Errorf("ffprobe finds %d streams and %d packets, want 1 and some", len(p.Streams), len(p.Packets))
	}
	s := p.Streams[0]
	var facts string
	switch {
	case kind == video && s.Type == video && s.Codec == "vp8" && s.Width == 1280 && s.Height == 720:
		facts = fmt.Sprintf("VP8 %dx%d", s.Width, s.Height)
	case kind == audio && s.Type == audio && s.Codec == "opus" && s.SampleRate == "48000":
		facts = fmt.Sprintf("Opus %s Hz %d ch", s.SampleRate, s.Channels)
	default:
		return "", fmt.Errorf("ffprobe finds %s %s %dx%d; VP8 1280x720 and Opus were sent", s.Type, s.Codec, s.Width, s.Height)
	}
	first, last := p.Packets[0], p.Packets[len(p.Packets)-1]
	from, err1 := seconds(first.Time)
	to, err2 := seconds(last.Time)
	if err := errors.Join(err1, err2); err != nil {
		return "", fmt.Errorf("ffprobe's times: %w", err)
	}
	length := to - from
	if d, err := seconds(last.Duration); err == nil {
		length += d
	}
	if length < least {
		return "", fmt.Errorf("ffprobe finds %.2f s of media, want at least %s", length.Seconds(), least)
	}
	return fmt.Sprintf("%s, %.2f s, %d packets", facts, length.Seconds(), len(p.Packets)), nil
}

func seconds(text string) (time.Duration, error) {
	v, err := strconv.ParseFloat(text, 64)
	return time.Duration(v * float64(time.Second)), err
}

// decode has ffmpeg decode everything; any message from it is a failure.
func (r *run) decode(ctx context.Context, path string) error {
	_, err := r.judge(ctx, "ffmpeg", "-nostdin", "-v", "error", "-xerror", "-i", path, "-f", "null", "-")
	return err
}

// still saves one picture from the middle, for people.
func (r *run) still(ctx context.Context, path string, at int) error {
	name := strings.TrimSuffix(path, ".webm") + ".png"
	_, err := r.judge(ctx, "ffmpeg", "-nostdin", "-v", "error", "-y", "-i", path, "-ss", strconv.Itoa(at), "-frames:v", "1", name)
	return err
}

// errComplaint: a program succeeded, but wrote to its error output.
var errComplaint = errors.New("it wrote to its error output")

// judge runs a program that must write nothing to its error output.
func (r *run) judge(ctx context.Context, name string, args ...string) ([]byte, error) {
	path, err := r.tool(name)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err = process.Run(ctx, cmd)
	if err == nil && complaint.Len() > 0 {
		err = errComplaint
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(complaint.String()))
	}
	return out.Bytes(), nil
}
