package tracks_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/at-wat/ebml-go"
	"github.com/google/uuid"
	"github.com/livekit/protocol/auth"
	lk "github.com/livekit/protocol/livekit"
	lksdk "github.com/livekit/server-sdk-go/v2"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/dev/stack"
	"github.com/openova-io/bp-relay/services/dev/testmedia"
	"github.com/openova-io/bp-relay/services/livekit"
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
	// refuse makes Append fail.
	refuse atomic.Bool
}

func (f *file) isEnded() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ended
}

// later are the gaps but for the track's beginning, before its first frame.
func (f *file) later() []gap {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.gaps) > 0 && slices.Contains([]string{"starting", "not_received"}, f.gaps[0].reason) {
		return f.gaps[1:]
	}
	return f.gaps
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
	if f.refuse.Load() {
		return errors.New("refused")
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

// store keeps the files of a recording across several recorders.
type store struct {
	mu    sync.Mutex
	files map[string]*file
	fault func(tracks.Stream) error
}

func (s *store) open(_ context.Context, st tracks.Stream) (tracks.Sink, error) {
	if s.fault != nil {
		if err := s.fault(st); err != nil {
			return nil, err
		}
	}
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

// of returns a participant's files of a kind, "audio" or "video".
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

// one waits until the participant's file is not empty.
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
	lk   *stack.LiveKit
	name string
	api  *lksdk.RoomServiceClient
	log  *slog.Logger // of its recorders
}

func newRoom(t *testing.T, server *stack.LiveKit) *room {
	r := &room{t: t, lk: server, name: "orgs/test/rooms/" + uuid.NewString(), api: lksdk.NewRoomServiceClient(server.URL, server.Key, server.Secret)}
	_, err := r.api.CreateRoom(t.Context(), &lk.CreateRoomRequest{Name: r.name, EmptyTimeout: 60, DepartureTimeout: 60})
	require.NoError(t, err)
	return r
}

func (r *room) client(address string) *livekit.Client {
	r.t.Helper()
	c, err := livekit.New(livekit.Config{URL: address, Key: r.lk.Key, Secret: r.lk.Secret})
	require.NoError(r.t, err)
	return c
}

func (r *room) publish(identity string, cfg testmedia.PublishConfig) *testmedia.Publisher {
	r.t.Helper()
	var err error
	cfg.URL = r.lk.SignalURL
	cfg.Token, err = auth.NewAccessToken(r.lk.Key, r.lk.Secret).SetIdentity(identity).SetVideoGrant(&auth.VideoGrant{RoomJoin: true, Room: r.name}).ToJWT()
	require.NoError(r.t, err)
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	p, err := testmedia.Publish(ctx, cfg)
	require.NoError(r.t, err)
	r.t.Cleanup(func() { _ = p.Close() })
	return p
}

// recorder is a running recorder.
type recorder struct {
	cancel context.CancelFunc
	done   chan struct{}
	end    tracks.End
	err    error
}

func (r *room) record(s *store, start time.Time, resumed bool) *recorder {
	r.t.Helper()
	return r.recordAt(r.lk.SignalURL, s, start, resumed)
}

func (r *room) recordAt(address string, s *store, start time.Time, resumed bool) *recorder {
	r.t.Helper()
	joined := make(chan struct{})
	var once sync.Once
	rec, err := tracks.New(tracks.Config{
		LiveKit: r.client(address), Room: r.name, Identity: "recorder-1",
		Start: start, Open: s.open, Resumed: resumed, Logger: r.log, Joined: func() { once.Do(func() { close(joined) }) },
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
		require.FailNow(r.t, "the recorder did not join the room")
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

// blocks reads a file and finds each frame in the clip: what is recorded is byte
// for byte what was published.
func blocks(t *testing.T, f *file, clip []testmedia.Frame) []block {
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
			require.True(t, ok || strings.HasPrefix(f.Name, "audio"), "a frame that was never sent, at %d ms", int64(c.Timecode)+int64(b.Timecode))
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
func epoch(list []block, clip []testmedia.Frame) time.Duration {
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

// missing counts the frames of the clip that are missing between blocks.
func missing(list []block, clip []testmedia.Frame) int {
	n := 0
	for i := 1; i < len(list); i++ {
		n += (list[i].clip - list[i-1].clip - 1 + len(clip)) % len(clip)
	}
	return n
}

// decode has ffmpeg decode the whole file without warnings. Timestamps are in
// milliseconds, as in the file: by default ffmpeg rounds them to a fixed rate,
// which real video does not have.
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

func makeClip(t *testing.T, spec testmedia.Spec) *testmedia.Clip {
	t.Helper()
	cache, err := os.UserCacheDir()
	require.NoError(t, err)
	clip, err := testmedia.Make(t.Context(), filepath.Join(cache, "bp-relay", "media"), spec)
	require.NoError(t, err)
	return clip
}
