package recording_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	recordingv1 "github.com/openova-io/bp-relay/gen/relay/recording/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/services/dev/testmedia"
)

// testLongName has a participant name its tracks with 1,015 bytes in a room that
// must be recorded: everybody's tracks are recorded, and the room lives.
func testLongName(t *testing.T, w *world) {
	w.serve()
	room := w.room()
	media := clip(t)
	w.publish(room, "ann", media)
	started, err := w.recordings.StartRecording(w.acme(), &recordingv1.StartRecordingRequest{
		Parent: "orgs/acme", Room: room, Mode: recordingv1.Mode_MODE_REQUIRED,
	})
	require.NoError(t, err)
	name := started.GetRecording().GetName()
	w.publishNamed(room, "eve", strings.Repeat("x", 1015), media)
	require.Eventually(t, func() bool { return len(w.get(name).GetTracks()) == 4 }, 20*time.Second, 50*time.Millisecond)
	time.Sleep(2 * time.Second) // the time itself is wanted: two seconds of all tracks
	require.Equal(t, recordingv1.Recording_STATE_ACTIVE, w.get(name).GetState())
	there, err := w.rooms.GetRoom(w.acme(), &roomv1.GetRoomRequest{Name: room})
	require.NoError(t, err)
	require.NotEqual(t, roomv1.Room_STATE_ENDED, there.GetRoom().GetState())
	_, err = w.recordings.StopRecording(w.acme(), &recordingv1.StopRecordingRequest{Name: name})
	require.NoError(t, err)
	rec := w.becomes(name, recordingv1.Recording_STATE_STORED)
	require.Equal(t, "stopped", rec.GetEndReason())
	require.Len(t, rec.GetTracks(), 4)
	for _, track := range rec.GetTracks() {
		require.Greater(t, pause(decode(t, track.GetStream(), w.read(name, track.GetStream()))), time.Duration(0), track.GetStream())
	}
}

// testNoKeyframe has a participant publish pictures without any keyframe: its
// track is listed, empty, and all of it is stated, in the record and the manifest.
func testNoKeyframe(t *testing.T, w *world) {
	w.serve()
	room := w.room()
	media := clip(t)
	deaf := &testmedia.Clip{Spec: media.Spec, Audio: media.Audio}
	for _, f := range media.Video {
		if f.Data[0]&1 == 1 { // RFC 6386 section 9.1
			deaf.Video = append(deaf.Video, f)
		}
	}
	w.publish(room, "deaf", deaf)
	started, err := w.recordings.StartRecording(w.acme(), &recordingv1.StartRecordingRequest{Parent: "orgs/acme", Room: room})
	require.NoError(t, err)
	name := started.GetRecording().GetName()
	require.Eventually(t, func() bool { return len(w.get(name).GetTracks()) == 2 }, 20*time.Second, 50*time.Millisecond)
	time.Sleep(3 * time.Second) // the time itself is wanted: that long nothing can be recorded
	_, err = w.recordings.StopRecording(w.acme(), &recordingv1.StopRecordingRequest{Name: name})
	require.NoError(t, err)
	rec := w.becomes(name, recordingv1.Recording_STATE_STORED)
	i := slices.IndexFunc(rec.GetTracks(), func(tr *recordingv1.Track) bool { return strings.HasPrefix(tr.GetStream(), "video-") })
	require.GreaterOrEqual(t, i, 0, "%v", rec.GetTracks())
	stream := rec.GetTracks()[i].GetStream()
	require.Zero(t, rec.GetTracks()[i].GetSizeBytes())
	require.Empty(t, w.read(name, stream))
	gaps := slices.DeleteFunc(slices.Clone(rec.GetGaps()), func(g *recordingv1.Gap) bool { return g.GetStream() != stream })
	require.Len(t, gaps, 1, "%v", rec.GetGaps())
	require.Contains(t, []string{"no_keyframe", "not_received"}, gaps[0].GetReason())
	require.False(t, gaps[0].GetStartTime().AsTime().After(rec.GetStartTime().AsTime().Add(time.Second)))
	require.Greater(t, gaps[0].GetEndTime().AsTime().Sub(gaps[0].GetStartTime().AsTime()), 3*time.Second)
}
