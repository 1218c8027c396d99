package tracks_test

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/dev/stack"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
	"github.com/openova-io/bp-relay/services/dev/testmedia"
	"github.com/openova-io/bp-relay/services/recording/tracks"
)

func TestRecorder(t *testing.T) {
	lk := stacktest.LiveKit(t)
	small := makeClip(t, testmedia.Spec{Width: 320, Height: 180, Bitrate: 250, Length: 4 * time.Second})
	// Not parallel: it requires every frame, and a machine with two processors
	// loses some when it records nine rooms at once.
	t.Run("TwoParticipants", func(t *testing.T) { testTwoParticipants(t, lk) })
	t.Run("group", func(t *testing.T) {
		t.Run("Mute", func(t *testing.T) { t.Parallel(); testMute(t, lk, small) })
		t.Run("LeaveAndReturn", func(t *testing.T) { t.Parallel(); testLeaveAndReturn(t, lk, small) })
		t.Run("Loss", func(t *testing.T) { t.Parallel(); testLoss(t, lk, small) })
		t.Run("TakeOver", func(t *testing.T) { t.Parallel(); testTakeOver(t, lk, small) })
		t.Run("SizeChange", func(t *testing.T) { t.Parallel(); testSizeChange(t, lk, small) })
		t.Run("Encrypted", func(t *testing.T) { t.Parallel(); testEncrypted(t, lk, small) })
		t.Run("OtherCodec", func(t *testing.T) { t.Parallel(); testOtherCodec(t, lk) })
		t.Run("Refresh", func(t *testing.T) { t.Parallel(); testRefresh(t, lk, small) })
		t.Run("NewsLost", func(t *testing.T) { t.Parallel(); testNewsLost(t, lk, small) })
		t.Run("NeverHeard", func(t *testing.T) { t.Parallel(); testNeverHeard(t, lk, small) })
		t.Run("RoomEnds", func(t *testing.T) { t.Parallel(); testRoomEnds(t, lk, small) })
	})
}

// testTwoParticipants records ten seconds of two participants: every frame is
// recorded byte for byte, and audio and video are in sync.
func testTwoParticipants(t *testing.T, lk *stack.LiveKit) {
	clip := makeClip(t, testmedia.Spec{Length: 5 * time.Second})
	r := newRoom(t, lk)
	var s store
	start := time.Now()
	rec := r.record(&s, start, false)
	ann := r.publish("ann", testmedia.PublishConfig{Clip: clip})
	r.publish("bob", testmedia.PublishConfig{Clip: clip})
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
		require.Zero(t, missing(v, clip.Video), "video of %s", who)
		require.Zero(t, missing(a, clip.Audio), "audio of %s", who)
		require.Empty(t, video.later())
		require.Empty(t, audio.later())
		for _, f := range []*file{video, audio} {
			require.Len(t, f.gaps, 1, "what came before the recorder had subscribed")
		}
		require.WithinDuration(t, start.Add(v[0].at), video.gaps[0].to, 2*time.Millisecond)
		require.WithinDuration(t, start.Add(a[0].at), audio.gaps[0].to, 2*time.Millisecond)
		offset := epoch(v, clip.Video) - epoch(a, clip.Audio)
		t.Logf("%s: sound and picture are %v apart; first picture at %v, first sound at %v", who, offset, v[0].at, a[0].at)
		// Less than 2 ms on an idle machine. 101 ms were measured once, at load 9,
		// perhaps because the publisher's sender reports were late. The bound is wide
		// until the cause is known: see the logged figure.
		require.Less(t, offset.Abs(), 250*time.Millisecond, who)
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

func testMute(t *testing.T, lk *stack.LiveKit, clip *testmedia.Clip) {
	r := newRoom(t, lk)
	var s store
	began := time.Now()
	rec := r.record(&s, began, false)
	p := r.publish("ann", testmedia.PublishConfig{Clip: clip})
	video, audio := s.one(t, "ann", "video"), s.one(t, "ann", "audio")
	time.Sleep(3 * time.Second)
	mute := func(on bool) {
		require.NoError(t, p.Mute(webrtc.RTPCodecTypeVideo, on))
		require.NoError(t, p.Mute(webrtc.RTPCodecTypeAudio, on))
	}
	silent := time.Now()
	mute(true)
	time.Sleep(4 * time.Second)
	mute(false)
	silence := time.Since(silent)
	time.Sleep(3 * time.Second)
	rec.stop()
	took := time.Since(began)

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
		require.Greater(t, pause, 3500*time.Millisecond, "%s: a pause keeps its length", f.Name)
		require.Less(t, pause, silence+1500*time.Millisecond, "%s: a pause keeps its length", f.Name)
		require.Greater(t, span(list), 8800*time.Millisecond, f.Name)
		require.LessOrEqual(t, span(list), took, f.Name)
		require.Len(t, f.marks["muted"], 1, f.Name)
		require.Len(t, f.marks["unmuted"], 1, f.Name)
		for _, g := range f.later() { // from the word that it is unmuted to the first frame
			require.Equal(t, "starting", g.reason, "intended silence is not a loss")
		}
		require.LessOrEqual(t, len(f.later()), 1)
		require.False(t, f.ended)
	}
	offset := epoch(blocks(t, video, clip.Video), clip.Video) - epoch(blocks(t, audio, clip.Audio), clip.Audio)
	require.Less(t, offset.Abs(), 250*time.Millisecond, "in sync after the pause, too; the bound is that of testTwoParticipants")
}

func testLeaveAndReturn(t *testing.T, lk *stack.LiveKit, clip *testmedia.Clip) {
	r := newRoom(t, lk)
	var s store
	rec := r.record(&s, time.Now(), false)
	p := r.publish("ann", testmedia.PublishConfig{Clip: clip})
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
	r.publish("ann", testmedia.PublishConfig{Clip: clip})
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
