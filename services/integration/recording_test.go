package integration_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	evidencev1 "github.com/openova-io/bp-relay/gen/relay/evidence/v1"
	recordingv1 "github.com/openova-io/bp-relay/gen/relay/recording/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/services/internal/apierr"
)

// start starts a recording of the room.
func (s *installation) start(room string) *recordingv1.Recording {
	recs := recordingv1.NewRecordingServiceClient(s.dial("recording"))
	r, err := recs.StartRecording(s.admin(), &recordingv1.StartRecordingRequest{Parent: "orgs/acme", Room: room, RequestId: uuid.NewString()})
	require.NoError(s.t, err)
	return r.GetRecording()
}

func (s *installation) stop(name string) {
	recs := recordingv1.NewRecordingServiceClient(s.dial("recording"))
	_, err := recs.StopRecording(s.admin(), &recordingv1.StopRecordingRequest{Name: name})
	require.NoError(s.t, err)
}

// A call with one participant who may use only the TURN path is recorded,
// downloaded, decoded, exported and verified.
func TestRecordingOfARoom(t *testing.T) {
	eachTopology(t, func(t *testing.T, s *installation) {
		room := s.room()
		s.publish(room, "direct", false)
		relayed := s.publish(room, "relayed", true)
		pair, err := relayed.Pair()
		require.NoError(t, err)
		require.Equal(t, "relay", pair.Local.Type)

		s.credentialIsEntered(room)

		rec := s.start(room)
		recs := recordingv1.NewRecordingServiceClient(s.dial("recording"))
		_, err = recs.StartRecording(s.admin(), &recordingv1.StartRecordingRequest{Parent: "orgs/acme", Room: room, RequestId: uuid.NewString()})
		require.Equal(t, "RECORDING_RUNNING", apierr.ReasonOf(err))
		time.Sleep(8 * time.Second) // the media's own time, not a wait for something
		s.stop(rec.GetName())
		rec = s.stored(rec.GetName())
		require.Len(t, rec.GetTracks(), 4, "two participants, audio and video each")
		for _, tr := range rec.GetTracks() {
			got := s.probe(s.download(rec.GetName(), tr.GetStream()))
			require.Greater(t, got.last-got.first, 6.5, tr.GetStream())
			require.Less(t, got.hole, 1.0, tr.GetStream())
			if isVideo(tr.GetStream()) {
				require.Equal(t, track{codec: "vp8", width: 1280, height: 720}, track{codec: got.codec, width: got.width, height: got.height})
			} else {
				require.Equal(t, "opus", got.codec)
			}
		}
		_, rep := s.verified(rec.GetCapture())
		require.Equal(t, 4, rep.Streams)
	})
}

// credentialIsEntered joins once more. The TURN credential's id must be in the
// room's custody log, and its secrets nowhere.
func (s *installation) credentialIsEntered(room string) {
	join, err := roomv1.NewRoomServiceClient(s.dial("room")).JoinRoom(s.admin(), &roomv1.JoinRoomRequest{Name: room, Identity: "guest"})
	require.NoError(s.t, err)
	ice := join.GetIceServers()[0]
	_, id, ok := strings.Cut(ice.GetUsername(), ":")
	require.True(s.t, ok)
	entries, err := evidencev1.NewEvidenceServiceClient(s.dial("evidence")).ListEntries(s.admin(),
		&evidencev1.ListEntriesRequest{Parent: "orgs/acme", Subject: room, PageSize: 1000})
	require.NoError(s.t, err)
	var all string
	for _, e := range entries.GetEntries() {
		all += string(e.GetOpening()) + string(e.GetBody())
	}
	require.Contains(s.t, all, id)
	require.NotContains(s.t, all, ice.GetCredential())
	require.NotContains(s.t, all, join.GetToken())
}

// gapReasons lists the reasons of the recording's gaps.
func gapReasons(rec *recordingv1.Recording) string {
	var all []string
	for _, g := range rec.GetGaps() {
		all = append(all, g.GetReason()+" "+g.GetEndTime().AsTime().Sub(g.GetStartTime().AsTime()).String())
	}
	return strings.Join(all, ", ")
}

// SIGKILL in the middle of a recording and a restart: at most 2 s of media are
// missing, the gap is stated, everything verifies.
func TestRelayIsKilledWhileRecording(t *testing.T) {
	eachTopology(t, func(t *testing.T, s *installation) {
		room := s.room()
		s.publish(room, "jane", false)
		rec := s.start(room)
		time.Sleep(5 * time.Second)
		s.procs["recording"].kill()
		s.procs["recording"].start()
		time.Sleep(6 * time.Second)
		s.stop(rec.GetName())
		rec = s.stored(rec.GetName())
		t.Logf("gaps: %s", gapReasons(rec))
		require.Contains(t, gapReasons(rec), "interrupted")
		require.Len(t, rec.GetTracks(), 2, "the tracks continue in the same files")
		for _, tr := range rec.GetTracks() {
			got := s.probe(s.download(rec.GetName(), tr.GetStream()))
			t.Logf("%s: from %.2f to %.2f, longest hole %.2f s", tr.GetStream(), got.first, got.last, got.hole)
			require.Greater(t, got.last, 9.0, "media from after the restart")
			require.LessOrEqual(t, got.hole, 2.0, "seconds missing")
		}
		_, rep := s.verified(rec.GetCapture())
		require.NotEmpty(t, rep.Gaps, "the gap is in the signed manifest")
	})
}

// SeaweedFS is away for 60 s in the middle of a recording: nothing is missing.
func TestObjectStoreIsAwayWhileRecording(t *testing.T) {
	eachTopologyAtOnce(t, func(t *testing.T, s *installation) {
		room := s.room()
		s.publish(room, "jane", false)
		rec := s.start(room)
		time.Sleep(3 * time.Second)
		require.NoError(t, s.s3.Kill())
		time.Sleep(60 * time.Second)
		require.NoError(t, s.s3.Restart(t.Context()))
		time.Sleep(3 * time.Second)
		s.stop(rec.GetName())
		rec = s.stored(rec.GetName())
		for _, g := range rec.GetGaps() {
			require.Equal(t, "starting", g.GetReason())
		}
		for _, tr := range rec.GetTracks() {
			got := s.probe(s.download(rec.GetName(), tr.GetStream()))
			require.Greater(t, got.last-got.first, 63.0, tr.GetStream())
			require.Less(t, got.hole, 1.0, tr.GetStream())
		}
		s.verified(rec.GetCapture())
	})
}
