package tracks_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/at-wat/ebml-go"
	"github.com/google/uuid"
	"github.com/livekit/protocol/auth"
	"github.com/livekit/protocol/livekit"
	lksdk "github.com/livekit/server-sdk-go/v2"
	"github.com/pion/webrtc/v4"
	pionmedia "github.com/pion/webrtc/v4/pkg/media"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/local"
	"github.com/openova-io/bp-relay/services/local/localtest"
	"github.com/openova-io/bp-relay/services/media"
	"github.com/openova-io/bp-relay/services/recording/tracks"
)

// file is a sink in memory.
type file struct {
	tracks.Stream
	mu    sync.Mutex
	data  bytes.Buffer
	marks map[string][]time.Time
	gaps  []gap
	ended bool
}

type gap struct {
	from, to time.Time
	reason   string
}

func (f *file) Append(p []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return errors.New("append to a closed file")
	}
	f.data.Write(p)
	return nil
}

func (f *file) Mark(kind string, at time.Time, _ map[string]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.marks[kind] = append(f.marks[kind], at)
}

func (f *file) Gap(from, to time.Time, reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gaps = append(f.gaps, gap{from, to, reason})
}

func (f *file) Size() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return int64(f.data.Len())
}

func (f *file) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	return nil
}

// store keeps the files of a recording, over several recorders.
type store struct {
	mu    sync.Mutex
	files map[string]*file
}

func (s *store) open(_ context.Context, st tracks.Stream) (tracks.Sink, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files == nil {
		s.files = map[string]*file{}
	}
	if s.files[st.Name] == nil {
		s.files[st.Name] = &file{Stream: st, marks: map[string][]time.Time{}}
	}
	return s.files[st.Name], nil
}

// of returns a participant's files of a kind.
func (s *store) of(identity, kind string) []*file {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*file
	for _, f := range s.files {
		if f.Attributes["participant_identity"] == identity && strings.HasPrefix(f.Name, kind) {
			list = append(list, f)
		}
	}
	return list
}

// one waits for the participant's file to hold something.
func (s *store) one(t *testing.T, identity, kind string) *file {
	t.Helper()
	var f *file
	require.Eventually(t, func() bool {
		if l := s.of(identity, kind); len(l) > 0 && l[0].Size() > 0 {
			f = l[0]
		}
		return f != nil
	}, 15*time.Second, 20*time.Millisecond, "%s of %s", kind, identity)
	return f
}

// room is one LiveKit room.
type room struct {
	t    *testing.T
	lk   *local.LiveKit
	name string
	api  *lksdk.RoomServiceClient
}

func newRoom(t *testing.T, lk *local.LiveKit) *room {
	r := &room{t: t, lk: lk, name: "orgs/test/rooms/" + uuid.NewString(), api: lksdk.NewRoomServiceClient(lk.URL, lk.Key, lk.Secret)}
	_, err := r.api.CreateRoom(t.Context(), &livekit.CreateRoomRequest{Name: r.name, EmptyTimeout: 60, DepartureTimeout: 60})
	require.NoError(t, err)
	return r
}

func (r *room) publish(identity string, cfg media.PublishConfig) *media.Publisher {
	r.t.Helper()
	var err error
	cfg.URL = r.lk.SignalURL
	cfg.Token, err = auth.NewAccessToken(r.lk.Key, r.lk.Secret).SetIdentity(identity).SetVideoGrant(&auth.VideoGrant{RoomJoin: true, Room: r.name}).ToJWT()
	require.NoError(r.t, err)
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	p, err := media.Publish(ctx, cfg)
	require.NoError(r.t, err)
	r.t.Cleanup(func() { _ = p.Close() })
	return p
}

// recorder is one that runs.
type recorder struct {
	cancel context.CancelFunc
	done   chan struct{}
	end    tracks.End
	err    error
}

func (r *room) record(s *store, start time.Time, resumed bool) *recorder {
	r.t.Helper()
	joined := make(chan struct{})
	var once sync.Once
	rec, err := tracks.New(tracks.Config{
		URL: r.lk.SignalURL, Key: r.lk.Key, Secret: r.lk.Secret, Room: r.name, Identity: "recorder-1",
		Start: start, Open: s.open, Resumed: resumed, Joined: func() { once.Do(func() { close(joined) }) },
	})
	require.NoError(r.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	run := &recorder{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(run.done)
		run.end, run.err = rec.Run(ctx)
	}()
	r.t.Cleanup(func() { run.stop(); require.NoError(r.t, run.err) })
	select {
	case <-joined:
	case <-run.done:
		require.FailNow(r.t, "recorder ended", "%s %v", run.end, run.err)
	case <-time.After(20 * time.Second):
		require.FailNow(r.t, "recorder did not get into the room")
	}
	return run
}

func (r *recorder) stop() tracks.End {
	r.cancel()
	<-r.done
	return r.end
}

// block is one frame of a file.
type block struct {
	at   time.Duration
	key  bool
	data []byte
	clip int // its index in the clip
}

// blocks reads a file back and finds each frame in the clip that was sent:
// what is recorded is byte for byte what was published.
func blocks(t *testing.T, f *file, clip []media.Frame) []block {
	t.Helper()
	var doc struct {
		Segment struct {
			Cluster []struct {
				Timecode    uint64       `ebml:"Timecode"`
				SimpleBlock []ebml.Block `ebml:"SimpleBlock"`
			} `ebml:"Cluster,size=unknown"`
		} `ebml:"Segment,size=unknown"`
	}
	require.NoError(t, ebml.Unmarshal(bytes.NewReader(f.data.Bytes()), &doc, ebml.WithIgnoreUnknown(true)))
	index := map[string]int{}
	for i, fr := range clip {
		index[string(fr.Data)] = i
	}
	var list []block
	next := 0
	for _, c := range doc.Segment.Cluster {
		for _, b := range c.SimpleBlock {
			i, ok := next, bytes.Equal(clip[next].Data, b.Data[0])
			if !ok {
				i, ok = index[string(b.Data[0])]
			}
			require.True(t, ok || strings.HasPrefix(f.Name, "audio"), "a picture that was never sent, at %d ms", int64(c.Timecode)+int64(b.Timecode))
			if !ok { // silence that LiveKit sends for a muted track
				continue
			}
			list = append(list, block{at: time.Duration(int64(c.Timecode)+int64(b.Timecode)) * time.Millisecond, key: b.Keyframe, data: b.Data[0], clip: i})
			next = (i + 1) % len(clip)
		}
	}
	require.NotEmpty(t, list)
	return list
}

// epoch is when, by the file's timestamps, the clip's loop began, modulo its
// length: the median over the frames.
func epoch(list []block, clip []media.Frame) time.Duration {
	length := clip[0].Duration * time.Duration(len(clip))
	first := (list[0].at - time.Duration(list[0].clip)*clip[0].Duration) % length
	var all []time.Duration
	for _, b := range list {
		d := (b.at - time.Duration(b.clip)*clip[0].Duration - first) % length
		if d > length/2 {
			d -= length
		}
		if d < -length/2 {
			d += length
		}
		all = append(all, d)
	}
	slices.Sort(all)
	return first + all[len(all)/2]
}

// missing counts the frames of the clip that were left out between blocks.
func missing(list []block, clip []media.Frame) int {
	n := 0
	for i := 1; i < len(list); i++ {
		n += (list[i].clip - list[i-1].clip - 1 + len(clip)) % len(clip)
	}
	return n
}

// decode has ffmpeg decode the file to its end, without a complaint. Frames
// are counted in milliseconds, as in the file: by default ffmpeg rounds them to
// its guess of a fixed rate, which real pictures do not have.
func decode(t *testing.T, f *file) map[string]string {
	t.Helper()
	path := filepath.Join(t.TempDir(), f.Name+f.Ext)
	require.NoError(t, os.WriteFile(path, f.data.Bytes(), 0o600))
	out, err := exec.Command("ffmpeg", "-v", "error", "-i", path, "-enc_time_base:v", "1/1000", "-f", "null", "-").CombinedOutput()
	require.NoError(t, err, string(out))
	require.Empty(t, string(out), f.Name)
	out, err = exec.Command("ffprobe", "-v", "error", "-show_entries", "stream=codec_name,width,height", "-of", "default=nw=1", path).CombinedOutput()
	require.NoError(t, err, string(out))
	values := map[string]string{}
	for line := range strings.Lines(string(out)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		values[k] = v
	}
	return values
}

func span(list []block) time.Duration { return list[len(list)-1].at - list[0].at }

func makeClip(t *testing.T, spec media.Spec) *media.Clip {
	t.Helper()
	cache, err := os.UserCacheDir()
	require.NoError(t, err)
	clip, err := media.Make(t.Context(), filepath.Join(cache, "bp-relay", "media"), spec)
	require.NoError(t, err)
	return clip
}

func TestRecorder(t *testing.T) {
	lk := localtest.LiveKit(t)
	small := makeClip(t, media.Spec{Width: 320, Height: 180, Bitrate: 250, Length: 4 * time.Second})
	t.Run("group", func(t *testing.T) {
		t.Run("TwoParticipants", func(t *testing.T) { t.Parallel(); testTwoParticipants(t, lk) })
		t.Run("Mute", func(t *testing.T) { t.Parallel(); testMute(t, lk, small) })
		t.Run("LeaveAndReturn", func(t *testing.T) { t.Parallel(); testLeaveAndReturn(t, lk, small) })
		t.Run("Loss", func(t *testing.T) { t.Parallel(); testLoss(t, lk, small) })
		t.Run("TakeOver", func(t *testing.T) { t.Parallel(); testTakeOver(t, lk, small) })
		t.Run("SizeChange", func(t *testing.T) { t.Parallel(); testSizeChange(t, lk, small) })
		t.Run("Encrypted", func(t *testing.T) { t.Parallel(); testEncrypted(t, lk, small) })
		t.Run("OtherCodec", func(t *testing.T) { t.Parallel(); testOtherCodec(t, lk) })
		t.Run("RoomEnds", func(t *testing.T) { t.Parallel(); testRoomEnds(t, lk, small) })
	})
}

// testTwoParticipants records ten seconds of two participants: every frame is
// there, byte for byte, and sound and picture are together.
func testTwoParticipants(t *testing.T, lk *local.LiveKit) {
	clip := makeClip(t, media.Spec{Length: 5 * time.Second})
	r := newRoom(t, lk)
	var s store
	start := time.Now()
	rec := r.record(&s, start, false)
	ann := r.publish("ann", media.PublishConfig{Clip: clip})
	r.publish("bob", media.PublishConfig{Clip: clip})
	pair, err := ann.Pair()
	require.NoError(t, err)
	t.Log("ann's path:", pair)
	for _, who := range []string{"ann", "bob"} {
		s.one(t, who, "video")
		s.one(t, who, "audio")
	}
	time.Sleep(10 * time.Second)
	stop := time.Since(start)
	require.Equal(t, tracks.EndStopped, rec.stop())

	for _, who := range []string{"ann", "bob"} {
		video, audio := s.one(t, who, "video"), s.one(t, who, "audio")
		info := decode(t, video)
		require.Equal(t, map[string]string{"codec_name": "vp8", "width": "1280", "height": "720"}, info)
		require.Equal(t, "opus", decode(t, audio)["codec_name"])
		v, a := blocks(t, video, clip.Video), blocks(t, audio, clip.Audio)
		for _, list := range [][]block{v, a} {
			require.Greater(t, span(list), 9500*time.Millisecond, who)
			require.InDelta(t, stop.Seconds(), list[len(list)-1].at.Seconds(), 0.5, "%s: recorded to the end", who)
		}
		require.Zero(t, missing(v, clip.Video), "pictures of %s", who)
		require.Zero(t, missing(a, clip.Audio), "sound of %s", who)
		require.Empty(t, video.gaps)
		require.Empty(t, audio.gaps)
		offset := epoch(v, clip.Video) - epoch(a, clip.Audio)
		t.Logf("%s: sound and picture are %v apart; first picture at %v, first sound at %v", who, offset, v[0].at, a[0].at)
		require.Less(t, offset.Abs(), 40*time.Millisecond, who)
		keys := 0
		for _, b := range v {
			if b.key {
				keys++
			}
		}
		require.Len(t, video.marks["keyframe"], keys)
		require.NotEmpty(t, video.marks["clock"], "a sender report anchors the clock")
		require.Equal(t, "camera", video.Attributes["source"])
		require.Equal(t, strconv.Itoa(1280), video.Attributes["width"])
	}
}

func testMute(t *testing.T, lk *local.LiveKit, clip *media.Clip) {
	r := newRoom(t, lk)
	var s store
	rec := r.record(&s, time.Now(), false)
	p := r.publish("ann", media.PublishConfig{Clip: clip})
	video, audio := s.one(t, "ann", "video"), s.one(t, "ann", "audio")
	time.Sleep(3 * time.Second)
	mute := func(on bool) {
		require.NoError(t, p.Mute(webrtc.RTPCodecTypeVideo, on))
		require.NoError(t, p.Mute(webrtc.RTPCodecTypeAudio, on))
	}
	mute(true)
	time.Sleep(4 * time.Second)
	mute(false)
	time.Sleep(3 * time.Second)
	rec.stop()

	for _, f := range []*file{video, audio} {
		decode(t, f)
		frames := clip.Video
		if f == audio {
			frames = clip.Audio
		}
		list := blocks(t, f, frames)
		pause := time.Duration(0)
		for i := 1; i < len(list); i++ {
			pause = max(pause, list[i].at-list[i-1].at)
		}
		require.InDelta(t, 4.5, pause.Seconds(), 1, "%s: a pause keeps its length", f.Name)
		require.InDelta(t, 10, span(list).Seconds(), 1.2, f.Name)
		require.Len(t, f.marks["muted"], 1, f.Name)
		require.Len(t, f.marks["unmuted"], 1, f.Name)
		require.Empty(t, f.gaps, "silence that was meant is no loss")
		require.False(t, f.ended)
	}
	offset := epoch(blocks(t, video, clip.Video), clip.Video) - epoch(blocks(t, audio, clip.Audio), clip.Audio)
	require.Less(t, offset.Abs(), 60*time.Millisecond, "together after the pause, too")
}

func testLeaveAndReturn(t *testing.T, lk *local.LiveKit, clip *media.Clip) {
	r := newRoom(t, lk)
	var s store
	rec := r.record(&s, time.Now(), false)
	p := r.publish("ann", media.PublishConfig{Clip: clip})
	first := s.one(t, "ann", "video")
	s.one(t, "ann", "audio")
	time.Sleep(2 * time.Second)
	require.NoError(t, p.Close())
	require.Eventually(t, func() bool {
		first.mu.Lock()
		defer first.mu.Unlock()
		return first.ended
	}, 5*time.Second, 20*time.Millisecond, "the file of a track that is gone is closed")
	time.Sleep(time.Second)
	r.publish("ann", media.PublishConfig{Clip: clip})
	require.Eventually(t, func() bool {
		return len(s.of("ann", "video")) == 2 && len(s.of("ann", "audio")) == 2
	}, 10*time.Second, 50*time.Millisecond)
	time.Sleep(2 * time.Second)
	rec.stop()
	ends := []time.Duration{}
	for _, f := range s.of("ann", "video") {
		decode(t, f)
		list := blocks(t, f, clip.Video)
		require.Greater(t, span(list), 900*time.Millisecond)
		ends = append(ends, list[0].at, list[len(list)-1].at)
	}
	slices.Sort(ends)
	require.Greater(t, ends[2]-ends[1], 900*time.Millisecond, "the second file begins after the first, on the same clock: %v", ends)
}

// testLoss loses packets on the way to LiveKit for good: what is written
// still decodes without a complaint, and what is missing is stated.
func testLoss(t *testing.T, lk *local.LiveKit, clip *media.Clip) {
	r := newRoom(t, lk)
	var s store
	rec := r.record(&s, time.Now(), false)
	r.publish("ann", media.PublishConfig{Clip: clip, Lose: func(_ webrtc.RTPCodecType, n uint64) bool { return n > 50 && n%100 < 2 }})
	video, audio := s.one(t, "ann", "video"), s.one(t, "ann", "audio")
	time.Sleep(8 * time.Second)
	rec.stop()
	for _, f := range []*file{video, audio} {
		decode(t, f)
		frames := clip.Video
		if f == audio {
			frames = clip.Audio
		}
		list := blocks(t, f, frames)
		require.Positive(t, missing(list, frames), f.Name)
		require.NotEmpty(t, f.gaps, f.Name)
		var stated time.Duration
		for _, g := range f.gaps {
			require.Equal(t, "packet_loss", g.reason)
			require.Positive(t, g.to.Sub(g.from))
			stated += g.to.Sub(g.from)
		}
		lost := time.Duration(missing(list, frames)) * frames[0].Duration
		require.GreaterOrEqual(t, stated, lost, "%s: gaps cover what is missing", f.Name)
		t.Logf("%s: %v missing, %v stated in %d gaps", f.Name, lost, stated, len(f.gaps))
	}
}

// testTakeOver lets a second recorder with the same identity take over while
// the first still runs, as after a crash that LiveKit has not noticed: it
// goes on in the same files, and little is missing.
func testTakeOver(t *testing.T, lk *local.LiveKit, clip *media.Clip) {
	r := newRoom(t, lk)
	var s store
	start := time.Now()
	first := r.record(&s, start, false)
	r.publish("ann", media.PublishConfig{Clip: clip})
	video, audio := s.one(t, "ann", "video"), s.one(t, "ann", "audio")
	time.Sleep(3 * time.Second)
	second := r.record(&s, start, true)
	select {
	case <-first.done:
	case <-time.After(10 * time.Second):
		require.FailNow(t, "the first recorder goes on")
	}
	require.Equal(t, tracks.EndReplaced, first.end)
	time.Sleep(3 * time.Second)
	require.Equal(t, tracks.EndStopped, second.stop())
	require.Len(t, s.of("ann", "video"), 1)
	for _, f := range []*file{video, audio} {
		decode(t, f)
		frames := clip.Video
		if f == audio {
			frames = clip.Audio
		}
		list := blocks(t, f, frames)
		lost := time.Duration(missing(list, frames)) * frames[0].Duration
		t.Logf("%s: %v missing", f.Name, lost)
		require.Less(t, lost, 2*time.Second, f.Name)
	}
}

// testSizeChange has the picture grow in the middle, as simulcast and screen
// sharing do.
func testSizeChange(t *testing.T, lk *local.LiveKit, clip *media.Clip) {
	r := newRoom(t, lk)
	big := makeClip(t, media.Spec{Width: 640, Height: 360, Bitrate: 500, Length: 2 * time.Second})
	both := &media.Clip{Spec: big.Spec, Video: append(slices.Clone(clip.Video[:60]), big.Video...)}
	var s store
	rec := r.record(&s, time.Now(), false)
	r.publish("ann", media.PublishConfig{Clip: both, NoAudio: true})
	f := s.one(t, "ann", "video")
	time.Sleep(5 * time.Second)
	rec.stop()
	decode(t, f)
	require.GreaterOrEqual(t, len(f.marks["size"]), 2, "each size is marked")
	require.Zero(t, missing(blocks(t, f, both.Video), both.Video))
	require.Empty(t, f.gaps)
}

// testEncrypted records frames that were encrypted end to end: they are kept
// byte for byte, and marked. Encryption leaves the first ten bytes of a
// keyframe and the first three of another one readable.
func testEncrypted(t *testing.T, lk *local.LiveKit, clip *media.Clip) {
	secret := &media.Clip{Spec: clip.Spec}
	scramble := func(f media.Frame, clear int) media.Frame {
		f.Data = bytes.Clone(f.Data)
		for i := clear; i < len(f.Data); i++ {
			f.Data[i] ^= 0xA5
		}
		return f
	}
	for _, f := range clip.Video {
		secret.Video = append(secret.Video, scramble(f, 3+7*int(1-f.Data[0]&1)))
	}
	for _, f := range clip.Audio {
		secret.Audio = append(secret.Audio, scramble(f, 1))
	}
	r := newRoom(t, lk)
	var s store
	rec := r.record(&s, time.Now(), false)
	r.publish("ann", media.PublishConfig{Clip: secret, Encryption: livekit.Encryption_GCM})
	video, audio := s.one(t, "ann", "video"), s.one(t, "ann", "audio")
	time.Sleep(2 * time.Second)
	rec.stop()
	require.Equal(t, "gcm", video.Attributes["encryption"])
	require.Equal(t, "gcm", audio.Attributes["encryption"])
	require.Zero(t, missing(blocks(t, video, secret.Video), secret.Video))
	require.Zero(t, missing(blocks(t, audio, secret.Audio), secret.Audio))
}

// testOtherCodec has somebody speak in a codec that is not recorded: that is
// stated for as long as it lasts.
func testOtherCodec(t *testing.T, lk *local.LiveKit) {
	r := newRoom(t, lk)
	var s store
	rec := r.record(&s, time.Now(), false)
	token, err := auth.NewAccessToken(lk.Key, lk.Secret).SetIdentity("ann").SetVideoGrant(&auth.VideoGrant{RoomJoin: true, Room: r.name}).ToJWT()
	require.NoError(t, err)
	ann, err := lksdk.ConnectToRoomWithToken(lk.SignalURL, token, nil)
	require.NoError(t, err)
	defer ann.Disconnect()
	track, err := webrtc.NewTrackLocalStaticSample(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypePCMU, ClockRate: 8000}, "mic", "ann")
	require.NoError(t, err)
	_, err = ann.LocalParticipant.PublishTrack(track, &lksdk.TrackPublicationOptions{Name: "mic", Source: livekit.TrackSource_MICROPHONE})
	require.NoError(t, err)
	for i := 0; len(s.of("ann", "audio")) == 0 || i < 50; i++ {
		require.NoError(t, track.WriteSample(pionmedia.Sample{Data: make([]byte, 160), Duration: 20 * time.Millisecond}))
		require.Less(t, i, 1000, "the track is noticed")
		time.Sleep(20 * time.Millisecond)
	}
	rec.stop()
	f := s.of("ann", "audio")[0]
	require.True(t, strings.HasSuffix(f.Name, "-pcmu"), f.Name)
	require.Zero(t, f.Size())
	require.Len(t, f.gaps, 1)
	require.Equal(t, "codec_not_recorded", f.gaps[0].reason)
	require.Positive(t, f.gaps[0].to.Sub(f.gaps[0].from))
}

func testRoomEnds(t *testing.T, lk *local.LiveKit, clip *media.Clip) {
	r := newRoom(t, lk)
	var s store
	rec := r.record(&s, time.Now(), false)
	r.publish("ann", media.PublishConfig{Clip: clip})
	f := s.one(t, "ann", "video")
	time.Sleep(time.Second)
	_, err := r.api.DeleteRoom(t.Context(), &livekit.DeleteRoomRequest{Room: r.name})
	require.NoError(t, err)
	select {
	case <-rec.done:
	case <-time.After(10 * time.Second):
		require.FailNow(t, "the recording goes on without its room")
	}
	require.Equal(t, tracks.EndRoomEnded, rec.end)
	decode(t, f)

	gone, err := tracks.New(tracks.Config{URL: lk.SignalURL, Key: lk.Key, Secret: lk.Secret, Room: r.name, Identity: "recorder-1", Open: s.open, Resumed: true})
	require.NoError(t, err)
	end, err := gone.Run(t.Context())
	require.NoError(t, err)
	require.Equal(t, tracks.EndRoomEnded, end, "a resumed recording of a room that is gone")
}

// TestLiveKitRestarts kills the media server in the middle: the recorder comes
// back as soon as the room does, and goes on.
func TestLiveKitRestarts(t *testing.T) {
	lk := localtest.LiveKit(t)
	clip := makeClip(t, media.Spec{Width: 320, Height: 180, Bitrate: 250, Length: 4 * time.Second})
	r := newRoom(t, lk)
	var s store
	rec := r.record(&s, time.Now(), false)
	p := r.publish("ann", media.PublishConfig{Clip: clip})
	s.one(t, "ann", "video")
	time.Sleep(2 * time.Second)
	require.NoError(t, lk.Kill())
	_ = p.Close()
	require.NoError(t, lk.Restart(t.Context()))
	r.publish("ann", media.PublishConfig{Clip: clip})
	require.Eventually(t, func() bool { return len(s.of("ann", "video")) == 2 }, 15*time.Second, 50*time.Millisecond, "the recorder comes back")
	time.Sleep(2 * time.Second)
	select {
	case <-rec.done:
		require.FailNow(t, "the recording has ended", "%s %v", rec.end, rec.err)
	default:
	}
	require.Equal(t, tracks.EndStopped, rec.stop())
	for _, f := range s.of("ann", "video") {
		decode(t, f)
		require.Greater(t, span(blocks(t, f, clip.Video)), time.Second)
	}
}
