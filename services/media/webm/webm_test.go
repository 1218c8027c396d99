package webm_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/at-wat/ebml-go"
	ebmlwebm "github.com/at-wat/ebml-go/webm"
	"github.com/pion/webrtc/v4/pkg/media/ivfreader"
	"github.com/pion/webrtc/v4/pkg/media/oggreader"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/media/webm"
)

// file is a sink that remembers where its units end.
type file struct {
	bytes.Buffer
	ends []int
	err  error
}

func (f *file) Append(p []byte) error {
	if f.err != nil {
		return f.err
	}
	f.Write(p)
	f.ends = append(f.ends, f.Len())
	return nil
}

type frame struct {
	ts   time.Duration
	key  bool
	data []byte
}

func ffmpeg(t testing.TB, args ...string) {
	t.Helper()
	out, err := exec.Command("ffmpeg", append([]string{"-v", "error", "-y"}, args...)...).CombinedOutput()
	require.NoError(t, err, string(out))
}

// vp8Frames encodes 3 s of a moving picture with a keyframe each second.
func vp8Frames(t testing.TB) []frame {
	path := filepath.Join(t.TempDir(), "v.ivf")
	ffmpeg(t, "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30:duration=3", "-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-g", "30", "-b:v", "300k", path)
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	r, _, err := ivfreader.NewWith(f)
	require.NoError(t, err)
	var frames []frame
	for {
		data, _, err := r.ParseNextFrame()
		if errors.Is(err, io.EOF) {
			return frames
		}
		require.NoError(t, err)
		frames = append(frames, frame{ts: time.Duration(len(frames)) * time.Second / 30, key: data[0]&1 == 0, data: data})
	}
}

// opusFrames encodes 3 s of a tone, 20 ms a frame.
func opusFrames(t testing.TB) []frame {
	path := filepath.Join(t.TempDir(), "a.ogg")
	ffmpeg(t, "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000:duration=3", "-c:a", "libopus", "-page_duration", "20000", path)
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	r, _, err := oggreader.NewWith(f)
	require.NoError(t, err)
	var frames []frame
	for {
		data, _, err := r.ParseNextPage()
		if errors.Is(err, io.EOF) {
			return frames
		}
		require.NoError(t, err)
		if !bytes.HasPrefix(data, []byte("OpusTags")) {
			frames = append(frames, frame{ts: time.Duration(len(frames)) * 20 * time.Millisecond, key: true, data: data})
		}
	}
}

func write(t testing.TB, f *file, cfg webm.Config, frames []frame) {
	t.Helper()
	w, err := webm.New(f, cfg)
	require.NoError(t, err)
	for _, fr := range frames {
		require.NoError(t, w.Write(fr.ts, fr.key, fr.data))
	}
}

// probe asks ffprobe for values of the only stream.
func probe(t testing.TB, data []byte, entries string) map[string]string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f.webm")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	out, err := exec.Command("ffprobe", "-v", "error", "-count_packets", "-show_entries", entries, "-of", "default=nw=1", path).CombinedOutput()
	require.NoError(t, err, string(out))
	values := map[string]string{}
	for line := range strings.Lines(string(out)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		values[k] = v
	}
	return values
}

// decode has ffmpeg decode everything and fails on any warning.
func decode(t testing.TB, data []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f.webm")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	out, err := exec.Command("ffmpeg", "-v", "error", "-i", path, "-f", "null", "-").CombinedOutput()
	require.NoError(t, err, string(out))
	require.Empty(t, string(out))
}

// lastPacket returns the presentation time of the last packet in seconds.
func lastPacket(t testing.TB, data []byte) float64 {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f.webm")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	out, err := exec.Command("ffprobe", "-v", "error", "-show_entries", "packet=pts_time", "-of", "csv=p=0", path).CombinedOutput()
	require.NoError(t, err, string(out))
	lines := strings.Fields(string(out))
	v, err := strconv.ParseFloat(strings.TrimRight(lines[len(lines)-1], ","), 64)
	require.NoError(t, err)
	return v
}

var vp8Config = webm.Config{Track: webm.Track{Codec: webm.VP8, Width: 320, Height: 180, Name: "camera"}, Start: time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)}

func TestVideo(t *testing.T) {
	frames := vp8Frames(t)
	var f file
	write(t, &f, vp8Config, frames)

	got := probe(t, f.Bytes(), "stream=codec_name,width,height,nb_read_packets:format_tags=creation_time")
	require.Equal(t, "vp8", got["codec_name"])
	require.Equal(t, "320", got["width"])
	require.Equal(t, "180", got["height"])
	require.Equal(t, strconv.Itoa(len(frames)), got["nb_read_packets"])
	require.Contains(t, got["TAG:creation_time"], "2026-11-22T08:00:00")
	require.InDelta(t, frames[len(frames)-1].ts.Seconds(), lastPacket(t, f.Bytes()), 0.002)
	decode(t, f.Bytes())
}

func TestAudio(t *testing.T) {
	frames := opusFrames(t)
	require.Greater(t, len(frames), 140)
	var f file
	write(t, &f, webm.Config{Track: webm.Track{Codec: webm.Opus, Channels: 1}}, frames)

	got := probe(t, f.Bytes(), "stream=codec_name,channels,sample_rate,initial_padding,nb_read_packets")
	require.Equal(t, "opus", got["codec_name"])
	require.Equal(t, "1", got["channels"])
	require.Equal(t, "48000", got["sample_rate"])
	require.Equal(t, strconv.Itoa(len(frames)), got["nb_read_packets"])
	decode(t, f.Bytes())
}

// TestContinue stops the writer after any unit and has another one continue.
func TestContinue(t *testing.T) {
	frames := vp8Frames(t)
	for _, cut := range []int{0, 1, 2, 29, 30, 31, 44} {
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			var f file
			write(t, &f, vp8Config, frames[:cut])
			cfg := vp8Config
			cfg.Continue = true
			rest := frames[60:] // a keyframe; what is between is lost
			write(t, &f, cfg, rest)
			got := probe(t, f.Bytes(), "stream=nb_read_packets")
			require.Equal(t, strconv.Itoa(cut+len(rest)), got["nb_read_packets"])
			require.InDelta(t, frames[len(frames)-1].ts.Seconds(), lastPacket(t, f.Bytes()), 0.002)
			decode(t, f.Bytes())
		})
	}
}

// TestReader compares with an independent reader: each block's time, flag and
// bytes are those that were written.
func TestReader(t *testing.T) {
	frames := vp8Frames(t)
	var f file
	write(t, &f, vp8Config, frames)
	var doc struct {
		Header  ebmlwebm.EBMLHeader `ebml:"EBML"`
		Segment struct {
			Info    ebmlwebm.Info   `ebml:"Info"`
			Tracks  ebmlwebm.Tracks `ebml:"Tracks"`
			Cluster []struct {
				Timecode    uint64       `ebml:"Timecode"`
				SimpleBlock []ebml.Block `ebml:"SimpleBlock"`
			} `ebml:"Cluster,size=unknown"`
		} `ebml:"Segment,size=unknown"`
	}
	require.NoError(t, ebml.Unmarshal(bytes.NewReader(f.Bytes()), &doc))
	require.Equal(t, "webm", doc.Header.DocType)
	require.Equal(t, uint64(time.Millisecond), doc.Segment.Info.TimecodeScale)
	require.Equal(t, "V_VP8", doc.Segment.Tracks.TrackEntry[0].CodecID)
	i := 0
	for _, c := range doc.Segment.Cluster {
		require.True(t, c.SimpleBlock[0].Keyframe, "a cluster of this input begins with a keyframe")
		for _, b := range c.SimpleBlock {
			require.Equal(t, frames[i].ts.Milliseconds(), int64(c.Timecode)+int64(b.Timecode))
			require.Equal(t, frames[i].key, b.Keyframe)
			require.Equal(t, frames[i].data, b.Data[0])
			i++
		}
	}
	require.Equal(t, len(frames), i)
}

func TestUnits(t *testing.T) {
	var f file
	w, err := webm.New(&f, webm.Config{Track: webm.Track{Codec: webm.Opus}})
	require.NoError(t, err)
	for ms := 0; ms < 3000; ms += 20 {
		require.NoError(t, w.Write(time.Duration(ms)*time.Millisecond, true, []byte{0xF8, 0xFF, 0xFE}))
	}
	require.Len(t, f.ends, 1+150, "a unit is one append")
	clusters := bytes.Count(f.Bytes(), binary.BigEndian.AppendUint32(nil, 0x1F43B675))
	require.Equal(t, 3, clusters, "a cluster a second")
	require.Equal(t, 2980*time.Millisecond, w.Last())
}

func TestTimesNeverGoBack(t *testing.T) {
	var f file
	w, err := webm.New(&f, webm.Config{Track: webm.Track{Codec: webm.Opus}})
	require.NoError(t, err)
	require.NoError(t, w.Write(-5*time.Millisecond, true, []byte{1}))
	require.Equal(t, time.Duration(0), w.Last())
	require.NoError(t, w.Write(40*time.Second, true, []byte{1}))
	require.NoError(t, w.Write(40*time.Second-30*time.Millisecond, true, []byte{1}))
	require.Equal(t, 40*time.Second+time.Millisecond, w.Last())
	require.ErrorIs(t, w.Write(time.Second, true, []byte{1}), webm.ErrTooOld)
}

func TestErrors(t *testing.T) {
	_, err := webm.New(&file{}, webm.Config{Track: webm.Track{Codec: "V_THEORA"}})
	require.ErrorContains(t, err, "V_THEORA")
	_, err = webm.New(&file{}, webm.Config{Track: webm.Track{Codec: webm.VP8}})
	require.ErrorContains(t, err, "0x0")
	full := &file{err: errors.New("disk full")}
	_, err = webm.New(full, vp8Config)
	require.ErrorIs(t, err, full.err)
}

type discard struct{}

func (discard) Append([]byte) error { return nil }

func TestNoAllocations(t *testing.T) {
	w, err := webm.New(discard{}, vp8Config)
	require.NoError(t, err)
	data := make([]byte, 8000)
	ts := time.Duration(0)
	n := 0
	require.NoError(t, w.Write(ts, true, data))
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		ts += 33 * time.Millisecond
		n++
		_ = w.Write(ts, n%60 == 0, data)
	}))
}

func BenchmarkWrite(b *testing.B) {
	w, err := webm.New(discard{}, vp8Config)
	require.NoError(b, err)
	data := make([]byte, 8000)
	ts := time.Duration(0)
	b.ReportAllocs()
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		ts += 33 * time.Millisecond
		_ = w.Write(ts, false, data)
	}
}

// refusing is a sink that refuses some units.
type refusing struct {
	file
	refuse func(n int) bool
	n      int
}

func (r *refusing) Append(p []byte) error {
	if r.n++; r.refuse(r.n) {
		return errors.New("refused")
	}
	return r.file.Append(p)
}

// TestRefusedUnits: whichever unit the sink refuses, the next ones can be written
// and the file plays, without that frame.
func TestRefusedUnits(t *testing.T) {
	frames := opusFrames(t)
	for _, every := range []int{2, 7, 50} {
		f := &refusing{refuse: func(n int) bool { return n > 1 && n%every == 0 }}
		w, err := webm.New(f, webm.Config{Track: webm.Track{Codec: webm.Opus}})
		require.NoError(t, err)
		kept := 0
		for _, fr := range frames {
			if w.Write(fr.ts, fr.key, fr.data) == nil {
				kept++
			}
		}
		require.Equal(t, strconv.Itoa(kept), probe(t, f.Bytes(), "stream=nb_read_packets")["nb_read_packets"], "every %d", every)
		decode(t, f.Bytes())
	}
}
