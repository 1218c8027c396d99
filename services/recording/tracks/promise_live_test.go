package tracks_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
	"github.com/openova-io/bp-relay/services/recording/tracks"
	"github.com/openova-io/bp-relay/services/rtc"
)

// TestPromise: with participants that browsers and networks do have, all of a
// track is in its file or in a gap, and the fault of one track stays with it.
func TestPromise(t *testing.T) {
	server := stacktest.LiveKit(t)
	e := engine(t)
	for name, test := range map[string]func(*testing.T, *room, *rtc.Engine){
		"ShortStays": testShortStays, "Deaf": testDeaf, "LostForGood": testLostForGood, "CameraPutIn": testCameraPutIn,
		"LongName": testLongName, "SinkFails": testSinkFails, "Stalls": testStalls,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newRoom(t, server), e)
		})
	}
}

// all asserts that each frame that was sent until then is in the file or in a gap.
func all(t *testing.T, l *live, f *file, w written, until time.Time) {
	t.Helper()
	there := l.zero
	if len(f.gaps) > 0 {
		there = f.gaps[0].from // LiveKit says that a track is there once its first packet has come
	}
	for n, at := range l.sent {
		if _, have := w.at[n]; have || at.After(until) || at.Before(there) {
			continue
		}
		require.True(t, f.stated(at, 200*time.Millisecond), "frame %d is neither in the file nor in a gap", n)
	}
}

// testShortStays has participants join, publish for 0.3 to 0.8 s, and leave: each
// has a file, and what is not in it is stated.
func testShortStays(t *testing.T, r *room, e *rtc.Engine) {
	var s store
	start := time.Now()
	rec := r.record(&s, start, false)
	var stays []*live
	for i := range 6 {
		l := r.live(e, fmt.Sprint("short", i), "camera", true)
		l.film(time.Duration(300+i*100)*time.Millisecond, true)
		require.NoError(t, l.Close())
		stays = append(stays, l)
	}
	require.Eventually(t, func() bool {
		for i := range stays {
			if list := s.of(fmt.Sprint("short", i), "video"); len(list) != 1 || !list[0].isEnded() {
				return false
			}
		}
		return true
	}, 20*time.Second, 50*time.Millisecond, "each stay has one file, which is closed")
	rec.stop()
	for i, l := range stays {
		f := s.of(fmt.Sprint("short", i), "video")[0]
		w := readLive(t, f, start)
		t.Logf("stay %d: %d of %d frames, gaps %v", i, len(w.order), len(l.sent), f.gaps)
		require.NotEmpty(t, f.gaps, "nobody subscribes before the first packet")
		last := l.sent[l.frames]
		all(t, l, f, w, last.Add(-500*time.Millisecond))
		require.True(t, len(w.order) > 0 || f.stated(last, 500*time.Millisecond))
	}
}

// testDeaf records the middle of a track whose publisher ignores requests for
// keyframes: nothing can be recorded, and all of it is stated.
func testDeaf(t *testing.T, r *room, e *rtc.Engine) {
	l := r.live(e, "deaf", "camera", true)
	l.film(2*time.Second, true)
	var s store
	start := time.Now()
	filmed := make(chan struct{})
	go func() { defer close(filmed); l.film(8*time.Second, false) }()
	rec := r.record(&s, start, false)
	time.Sleep(6 * time.Second)
	stop := time.Now()
	rec.stop()
	<-filmed
	f := s.of("deaf", "video")[0]
	require.Zero(t, f.Size())
	require.Len(t, f.gaps, 1)
	require.Equal(t, start.UnixMilli(), f.gaps[0].from.UnixMilli())
	require.False(t, f.gaps[0].to.Before(stop))
	require.Contains(t, []string{"not_received", "no_keyframe"}, f.gaps[0].reason)
}

// testLostForGood loses one packet for good, and no keyframe comes before the
// recording is stopped.
func testLostForGood(t *testing.T, r *room, e *rtc.Engine) {
	var s store
	start := time.Now()
	rec := r.record(&s, start, false)
	l := r.live(e, "ann", "camera", true)
	l.film(500*time.Millisecond, true)
	f := (*file)(nil)
	require.Eventually(t, func() bool {
		l.film(300*time.Millisecond, true) // until LiveKit forwards
		if list := s.of("ann", "video"); len(list) == 1 && list[0].Size() > 0 {
			f = list[0]
		}
		return f != nil
	}, 20*time.Second, time.Millisecond)
	lost := time.Now()
	l.picture(0, 0, true)
	l.film(4*time.Second, false)
	stop := time.Now()
	rec.stop()
	w := readLive(t, f, start)
	all(t, l, f, w, stop)
	g := f.gaps[len(f.gaps)-1]
	require.Equal(t, "packet_loss", g.reason)
	require.False(t, g.from.After(lost.Add(200*time.Millisecond)), "%v", f.gaps)
	require.False(t, g.to.Before(stop), "%v", f.gaps)
}

// testCameraPutIn begins with 16x16 pictures, as a canvas does, and puts a camera
// into the track.
func testCameraPutIn(t *testing.T, r *room, e *rtc.Engine) {
	var s store
	start := time.Now()
	rec := r.record(&s, start, false)
	l := r.live(e, "ann", "camera", true)
	for range 30 {
		l.picture(16, 16, false)
		for range 3 {
			time.Sleep(33 * time.Millisecond)
			l.picture(0, 0, false)
		}
	}
	l.film(time.Second, true)
	stop := time.Now()
	f := s.one(t, "ann", "video")
	rec.stop()
	w := readLive(t, f, start)
	require.Equal(t, "V_VP8", w.codec)
	require.True(t, w.keys[w.order[0]], "the file begins with a keyframe")
	require.Greater(t, len(w.order), 60)
	require.GreaterOrEqual(t, len(f.marks["size"]), 2)
	all(t, l, f, w, stop.Add(-500*time.Millisecond))
}

// testLongName names a track with 1,015 bytes: it is recorded, and what was cut
// is said.
func testLongName(t *testing.T, r *room, e *rtc.Engine) {
	var s store
	rec := r.record(&s, time.Now(), false)
	l := r.live(e, "ann", strings.Repeat("漢", 338)+"!", true)
	for range 6 {
		l.film(300*time.Millisecond, true) // LiveKit forwards from a keyframe on
	}
	f := s.one(t, "ann", "video")
	require.Equal(t, strings.Repeat("漢", 170), f.Attributes["track_name"])
	require.Equal(t, "1015", f.Attributes["track_name_bytes"])
	require.Len(t, f.Attributes["track_name_sha256"], 64)
	require.Equal(t, tracks.EndStopped, rec.stop())
}

// testSinkFails has one participant's stream fail to open a few times, another's
// be refused with what the participant said, and a third's not take bytes for a
// while: each is a gap of its track, and the recording goes on.
func testSinkFails(t *testing.T, r *room, e *rtc.Engine) {
	s := store{}
	var tries, refused atomic.Int32
	s.fault = func(st tracks.Stream) error {
		switch who := st.Attributes["participant_identity"]; {
		case who == "slow" && tries.Add(1) <= 4:
			return errors.New("the records are away")
		case who == "refused":
			refused.Add(1)
			return fmt.Errorf("%w: for this test", tracks.ErrRefused)
		}
		return nil
	}
	start := time.Now()
	rec := r.record(&s, start, false)
	names := []string{"slow", "refused", "full", "well"}
	var all4 []*live
	for _, who := range names {
		all4 = append(all4, r.live(e, who, "camera", true))
	}
	film := func(d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); {
			for _, l := range all4 {
				l.film(10*time.Millisecond, true)
			}
		}
	}
	film(4 * time.Second)
	full := s.one(t, "full", "video")
	full.refuse.Store(true)
	film(time.Second)
	full.refuse.Store(false)
	film(2 * time.Second)
	stop := time.Now()
	require.Equal(t, tracks.EndStopped, rec.stop())
	require.NoError(t, rec.err)
	require.EqualValues(t, 1, refused.Load())
	for i, who := range names {
		list := s.of(who, "video")
		if who == "refused" {
			list = s.of("", "video")
			require.Equal(t, "refused", list[0].Attributes["attributes"])
		}
		require.Len(t, list, 1, who)
		w := readLive(t, list[0], start)
		require.NotEmpty(t, w.order, who)
		all(t, all4[i], list[0], w, stop.Add(-500*time.Millisecond))
	}
	reasons := func(f *file) (list []string) {
		for _, g := range f.gaps {
			list = append(list, g.reason)
		}
		return list
	}
	require.Contains(t, reasons(full), "not_stored")
	require.NotContains(t, reasons(s.one(t, "well", "video")), "not_stored")
}

// testStalls has a sound track stall for 1.5 s five times while its RTP time
// stands still, and its sender reports, sent every 2 s, say so: sound is off for
// one report at most, and never squeezed.
func testStalls(t *testing.T, r *room, e *rtc.Engine) {
	var s store
	start := time.Now()
	rec := r.record(&s, start, false)
	l := r.live(e, "ann", "microphone", false)
	const packet, every = 20 * time.Millisecond, 2 * time.Second
	due, reported := time.Now(), time.Now()
	var rtpTime uint32
	for stall := range 6 {
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end); due = due.Add(packet) {
			time.Sleep(time.Until(due))
			l.sound(rtpTime)
			if time.Since(reported) >= every {
				reported = time.Now()
				l.report(rtpTime)
			}
			rtpTime += 960
		}
		if stall < 5 {
			time.Sleep(1500 * time.Millisecond)
			due = time.Now()
		}
	}
	stop := time.Now()
	f := s.one(t, "ann", "audio")
	rec.stop()
	w := readLive(t, f, start)
	require.Greater(t, len(w.order), 1000)
	all(t, l, f, w, stop.Add(-500*time.Millisecond))
	var squeezed, worst time.Duration
	var wrong int
	for i, n := range w.order {
		if i > 0 && n == w.order[i-1]+1 {
			squeezed = max(squeezed, packet-w.at[n].Sub(w.at[w.order[i-1]]))
		}
		off := w.at[n].Sub(l.sent[n]).Abs()
		worst = max(worst, off)
		if off > 250*time.Millisecond {
			wrong++
		}
	}
	t.Logf("at most %v off, %d of %d packets more than 250 ms, squeezed by %v", worst, wrong, len(w.order), squeezed)
	require.LessOrEqual(t, squeezed, packet/2+2*time.Millisecond, "two packets are never closer than half of what they were")
	// After each of five stalls, until the report that follows it has arrived, which
	// LiveKit passes on with its own, sent every 3 s.
	require.Less(t, wrong, 5*int((every+3*time.Second)/packet), "off for one report at most")
}
