package tracks_test

import (
	"bytes"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/livekit/protocol/auth"
	"github.com/livekit/protocol/livekit"
	lksdk "github.com/livekit/server-sdk-go/v2"
	"github.com/pion/webrtc/v4"
	pionmedia "github.com/pion/webrtc/v4/pkg/media"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/dev/stack"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
	"github.com/openova-io/bp-relay/services/dev/testmedia"
	"github.com/openova-io/bp-relay/services/recording/tracks"
)

// testLoss loses packets on the way to LiveKit for good: the files still decode
// without warnings, and what is missing is stated.
func testLoss(t *testing.T, lk *stack.LiveKit, clip *testmedia.Clip) {
	r := newRoom(t, lk)
	var s store
	rec := r.record(&s, time.Now(), false)
	r.publish("ann", testmedia.PublishConfig{Clip: clip, Lose: func(_ webrtc.RTPCodecType, n uint64) bool { return n > 50 && n%100 < 2 }})
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
		for _, g := range f.later() {
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
// continues the same files, and less than 2 s are missing.
func testTakeOver(t *testing.T, lk *stack.LiveKit, clip *testmedia.Clip) {
	r := newRoom(t, lk)
	var s store
	start := time.Now()
	first := r.record(&s, start, false)
	r.publish("ann", testmedia.PublishConfig{Clip: clip})
	video, audio := s.one(t, "ann", "video"), s.one(t, "ann", "audio")
	time.Sleep(3 * time.Second)
	second := r.record(&s, start, true)
	select {
	case <-first.done:
	case <-time.After(10 * time.Second):
		require.FailNow(t, "the first recorder is still running")
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

// testSizeChange changes the video's size in the middle, as simulcast and screen
// sharing do.
func testSizeChange(t *testing.T, lk *stack.LiveKit, clip *testmedia.Clip) {
	r := newRoom(t, lk)
	big := makeClip(t, testmedia.Spec{Width: 640, Height: 360, Bitrate: 500, Length: 2 * time.Second})
	both := &testmedia.Clip{Spec: big.Spec, Video: append(slices.Clone(clip.Video[:60]), big.Video...)}
	var s store
	rec := r.record(&s, time.Now(), false)
	r.publish("ann", testmedia.PublishConfig{Clip: both, NoAudio: true})
	f := s.one(t, "ann", "video")
	time.Sleep(5 * time.Second)
	rec.stop()
	decode(t, f)
	require.GreaterOrEqual(t, len(f.marks["size"]), 2, "each size is marked")
	require.Zero(t, missing(blocks(t, f, both.Video), both.Video))
	require.Empty(t, f.later())
}

// testEncrypted records frames that were encrypted end to end: they are kept
// byte for byte, and marked. Encryption leaves the first ten bytes of a
// keyframe, and the first three of other frames, in the clear.
func testEncrypted(t *testing.T, lk *stack.LiveKit, clip *testmedia.Clip) {
	secret := &testmedia.Clip{Spec: clip.Spec}
	scramble := func(f testmedia.Frame, clear int) testmedia.Frame {
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
	r.publish("ann", testmedia.PublishConfig{Clip: secret, Encryption: livekit.Encryption_GCM})
	video, audio := s.one(t, "ann", "video"), s.one(t, "ann", "audio")
	time.Sleep(2 * time.Second)
	rec.stop()
	require.Equal(t, "gcm", video.Attributes["encryption"])
	require.Equal(t, "gcm", audio.Attributes["encryption"])
	require.Zero(t, missing(blocks(t, video, secret.Video), secret.Video))
	require.Zero(t, missing(blocks(t, audio, secret.Audio), secret.Audio))
}

// testOtherCodec publishes audio in a codec that is not recorded: all of it is
// stated as a gap.
func testOtherCodec(t *testing.T, lk *stack.LiveKit) {
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

// testRefresh has a participant join again under the same identity before its
// first stay has ended, as a refreshed browser does. LiveKit then restarts the
// participant's version numbers; a receiver that takes the new updates for old
// ones misses the new stay.
func testRefresh(t *testing.T, lk *stack.LiveKit, clip *testmedia.Clip) {
	r := newRoom(t, lk)
	var s store
	r.record(&s, time.Now(), false)
	r.publish("ann", testmedia.PublishConfig{Clip: clip, NoAudio: true})
	first := s.one(t, "ann", "video")
	for i := range 20 {
		_, err := r.api.UpdateParticipant(t.Context(), &livekit.UpdateParticipantRequest{Room: r.name, Identity: "ann", Metadata: strconv.Itoa(i)})
		require.NoError(t, err)
	}
	again := r.publish("ann", testmedia.PublishConfig{Clip: clip, NoAudio: true})
	require.Eventually(t, func() bool {
		for _, f := range s.of("ann", "video") {
			if f.Name != first.Name && f.Size() > 0 {
				return true
			}
		}
		return false
	}, 15*time.Second, 20*time.Millisecond, "the second stay is recorded")
	require.NoError(t, again.Close())
}

func testRoomEnds(t *testing.T, lk *stack.LiveKit, clip *testmedia.Clip) {
	r := newRoom(t, lk)
	var s store
	rec := r.record(&s, time.Now(), false)
	r.publish("ann", testmedia.PublishConfig{Clip: clip})
	f := s.one(t, "ann", "video")
	time.Sleep(time.Second)
	_, err := r.api.DeleteRoom(t.Context(), &livekit.DeleteRoomRequest{Room: r.name})
	require.NoError(t, err)
	select {
	case <-rec.done:
	case <-time.After(10 * time.Second):
		require.FailNow(t, "the recording continues without its room")
	}
	require.Equal(t, tracks.EndRoomEnded, rec.end)
	decode(t, f)

	gone, err := tracks.New(tracks.Config{LiveKit: r.client(lk.SignalURL), Room: r.name, Identity: "recorder-1", Open: s.open, Resumed: true})
	require.NoError(t, err)
	end, err := gone.Run(t.Context())
	require.NoError(t, err)
	require.Equal(t, tracks.EndRoomEnded, end, "a resumed recording of a room that is gone")
}

// TestLiveKitRestarts kills the media server in the middle: the recorder joins
// again as soon as the room exists, and continues. The log has no token in it, at
// any level.
func TestLiveKitRestarts(t *testing.T) {
	lk := stacktest.LiveKit(t)
	var logged lockedBuffer
	clip := makeClip(t, testmedia.Spec{Width: 320, Height: 180, Bitrate: 250, Length: 4 * time.Second})
	r := newRoom(t, lk)
	r.log = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.Level(-100)}))
	var s store
	rec := r.record(&s, time.Now(), false)
	p := r.publish("ann", testmedia.PublishConfig{Clip: clip})
	s.one(t, "ann", "video")
	time.Sleep(2 * time.Second)
	require.NoError(t, lk.Kill())
	_ = p.Close()
	require.NoError(t, lk.Restart(t.Context()))
	r.publish("ann", testmedia.PublishConfig{Clip: clip})
	require.Eventually(t, func() bool { return len(s.of("ann", "video")) == 2 }, time.Minute, 50*time.Millisecond, "the recorder joins again")
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
	text := logged.String()
	require.Contains(t, text, "part=livekit-sdk")
	require.NotContains(t, text, "eyJ", "a token, or a part of one")
	require.NotContains(t, text, lk.Secret)
}

// lockedBuffer is a log that several goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
