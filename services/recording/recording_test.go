package recording_test

import (
	"path"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	recordingv1 "github.com/openova-io/bp-relay/gen/relay/recording/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/services/dev/stack"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
)

func TestRecordings(t *testing.T) {
	lk := stacktest.LiveKit(t)
	objects := stacktest.SeaweedFS(t, "recordings")
	// Not parallel: the time that it bounds includes the start of a process.
	t.Run("Killed", func(t *testing.T) { testKilled(t, newWorld(t, lk, objects, nil)) })
	t.Run("group", func(t *testing.T) {
		t.Run("Life", func(t *testing.T) { t.Parallel(); testLife(t, newWorld(t, lk, objects, nil)) })
		t.Run("RoomEnds", func(t *testing.T) { t.Parallel(); testRoomEnds(t, newWorld(t, lk, objects, nil)) })
		t.Run("Restarted", func(t *testing.T) { t.Parallel(); testRestarted(t, newWorld(t, lk, objects, nil)) })
		t.Run("Replicas", func(t *testing.T) { t.Parallel(); testReplicas(t, lk, objects) })
		t.Run("RoomOpenedAgain", func(t *testing.T) { t.Parallel(); testRoomOpenedAgain(t, lk, objects) })
		t.Run("RecordsAway", func(t *testing.T) { t.Parallel(); testRecordsAway(t, lk, objects) })
		t.Run("RedisForgets", func(t *testing.T) { t.Parallel(); testRedisForgets(t, lk, objects) })
		t.Run("ActivationLost", func(t *testing.T) { t.Parallel(); testActivationLost(t, lk, objects) })
		t.Run("LiveKitAway", func(t *testing.T) { t.Parallel(); testLiveKitAway(t, lk, objects) })
		t.Run("LongName", func(t *testing.T) { t.Parallel(); testLongName(t, newWorld(t, lk, objects, nil)) })
		t.Run("NoKeyframe", func(t *testing.T) { t.Parallel(); testNoKeyframe(t, newWorld(t, lk, objects, nil)) })
		t.Run("StoreBreaksOff", func(t *testing.T) { t.Parallel(); testStoreBreaksOff(t, lk, objects) })
		t.Run("RequiredSpoolFull", func(t *testing.T) { t.Parallel(); testSpoolFull(t, lk, objects) })
		t.Run("RequiredSpoolFullRecordsAway", func(t *testing.T) { t.Parallel(); testSpoolFullRecordsAway(t, lk, objects) })
	})
}

// testLife starts a recording, retries the start, stops it, and plays it.
func testLife(t *testing.T, w *world) {
	w.serve()
	room := w.room()
	w.publish(room, "ann", clip(t))

	req := &recordingv1.StartRecordingRequest{Parent: "orgs/acme", Room: room, RequestId: uuid.NewString()}
	first, err := w.recordings.StartRecording(w.acme(), req)
	require.NoError(t, err)
	name := first.GetRecording().GetName()
	require.Equal(t, recordingv1.Recording_STATE_ACTIVE, first.GetRecording().GetState())
	require.Equal(t, "default-90d", first.GetRecording().GetRetentionClass())
	require.NotNil(t, first.GetRecording().GetStartTime())
	again, err := w.recordings.StartRecording(w.acme(), req)
	require.NoError(t, err)
	require.True(t, proto.Equal(first, again), "the same request_id gets the same answer: %v, %v", first, again)

	_, err = w.recordings.StartRecording(w.acme(), &recordingv1.StartRecordingRequest{Parent: "orgs/acme", Room: room, RequestId: uuid.NewString()})
	fails(t, err, codes.AlreadyExists, "RECORDING_RUNNING")
	_, err = w.recordings.StartRecording(w.acme(), &recordingv1.StartRecordingRequest{Parent: "orgs/acme", Room: room, RetentionClass: "legal", RequestId: req.GetRequestId()})
	fails(t, err, codes.InvalidArgument, "REQUEST_ID_REUSED")
	_, err = w.recordings.StartRecording(w.acme(), &recordingv1.StartRecordingRequest{Parent: "orgs/acme", Room: "orgs/acme/rooms/nowhere"})
	fails(t, err, codes.NotFound, "ROOM_NOT_FOUND")
	_, err = w.recordings.StartRecording(w.as("other", "relay-admin"), req)
	fails(t, err, codes.PermissionDenied, "OTHER_ORGANISATION")
	_, err = w.recordings.StartRecording(w.as("acme"), req)
	fails(t, err, codes.PermissionDenied, "PERMISSION_MISSING")
	_, err = w.recordings.GetRecording(w.as("other", "relay-admin"), &recordingv1.GetRecordingRequest{Name: name})
	fails(t, err, codes.PermissionDenied, "OTHER_ORGANISATION")
	_, err = w.recordings.GetRecording(w.acme(), &recordingv1.GetRecordingRequest{Name: "orgs/acme/recordings/none"})
	fails(t, err, codes.NotFound, "RECORDING_NOT_FOUND")

	_, err = w.rooms.JoinRoom(w.acme(), &roomv1.JoinRoomRequest{Name: room, Identity: "recorder-" + path.Base(name)})
	fails(t, err, codes.InvalidArgument, "FIELD_INVALID") // LiveKit would replace the recorder

	require.Eventually(t, func() bool { return len(w.get(name).GetTracks()) == 2 }, 10*time.Second, 50*time.Millisecond)
	time.Sleep(5 * time.Second)
	_, err = w.recordings.StopRecording(w.acme(), &recordingv1.StopRecordingRequest{Name: name, Etag: "99"})
	fails(t, err, codes.Aborted, "ETAG_MISMATCH")
	stopped, err := w.recordings.StopRecording(w.acme(), &recordingv1.StopRecordingRequest{Name: name, Etag: w.get(name).GetEtag()})
	require.NoError(t, err)
	require.Contains(t, []recordingv1.Recording_State{recordingv1.Recording_STATE_STOPPING, recordingv1.Recording_STATE_STORED}, stopped.GetRecording().GetState())
	second, err := w.recordings.StartRecording(w.acme(), &recordingv1.StartRecordingRequest{Parent: "orgs/acme", Room: room})
	require.NoError(t, err, "the next recording does not wait until the last one is stored")

	r := w.becomes(name, recordingv1.Recording_STATE_STORED)
	require.Equal(t, "stopped", r.GetEndReason())
	require.Len(t, r.GetManifestSha256(), 64)
	require.Empty(t, lost(r))
	require.Len(t, r.GetTracks(), 2)
	for _, track := range r.GetTracks() {
		require.Equal(t, "ann", track.GetParticipantIdentity())
		data := w.read(name, track.GetStream())
		require.Len(t, data, int(track.GetSizeBytes()))
		times := decode(t, track.GetStream(), data)
		require.Greater(t, times[len(times)-1]-times[0], 4500*time.Millisecond)
	}
	s, err := w.recordings.ReadTrack(w.acme(), &recordingv1.ReadTrackRequest{Name: name, Stream: "none"})
	require.NoError(t, err)
	_, err = s.Recv()
	fails(t, err, codes.NotFound, "TRACK_NOT_FOUND")

	_, err = w.recordings.StopRecording(w.acme(), &recordingv1.StopRecordingRequest{Name: name})
	require.NoError(t, err, "stopping a stopped one succeeds")
	_, err = w.recordings.StopRecording(w.acme(), &recordingv1.StopRecordingRequest{Name: second.GetRecording().GetName()})
	require.NoError(t, err)
	page, err := w.recordings.ListRecordings(w.acme(), &recordingv1.ListRecordingsRequest{Parent: "orgs/acme", Room: room, PageSize: 1})
	require.NoError(t, err)
	require.Equal(t, name, page.GetRecordings()[0].GetName(), "oldest first")
	page, err = w.recordings.ListRecordings(w.acme(), &recordingv1.ListRecordingsRequest{Parent: "orgs/acme", Room: room, PageSize: 1, PageToken: page.GetNextPageToken()})
	require.NoError(t, err)
	require.Equal(t, second.GetRecording().GetName(), page.GetRecordings()[0].GetName())
	_, err = w.recordings.ListRecordings(w.acme(), &recordingv1.ListRecordingsRequest{Parent: "orgs/acme", PageToken: "nonsense"})
	fails(t, err, codes.InvalidArgument, "PAGE_TOKEN_INVALID")
	w.becomes(second.GetRecording().GetName(), recordingv1.Recording_STATE_STORED)

	require.Equal(t, []string{"recording.starting", "recording.active", "recording.stopping", "recording.stored", "recording.read", "recording.read", "recording.read"}, w.leaves(name))
}

func testRoomEnds(t *testing.T, w *world) {
	w.serve()
	room := w.room()
	w.publish(room, "ann", clip(t))
	r, err := w.recordings.StartRecording(w.acme(), &recordingv1.StartRecordingRequest{Parent: "orgs/acme", Room: room})
	require.NoError(t, err)
	name := r.GetRecording().GetName()
	time.Sleep(2 * time.Second)
	_, err = w.rooms.DeleteRoom(w.acme(), &roomv1.DeleteRoomRequest{Name: room})
	require.NoError(t, err)
	require.Equal(t, "room_ended", w.becomes(name, recordingv1.Recording_STATE_STORED).GetEndReason())
	_, err = w.recordings.StartRecording(w.acme(), &recordingv1.StartRecordingRequest{Parent: "orgs/acme", Room: room})
	fails(t, err, codes.FailedPrecondition, "ROOM_NOT_OPEN")
}

// testKilled kills the process during a recording and restarts it at once: less
// than 2 s are missing, the gap is stated, and the rest plays.
func testKilled(t *testing.T, w *world) {
	kill := w.spawn()
	w.up()
	room := w.room()
	w.publish(room, "ann", clip(t))
	r, err := w.recordings.StartRecording(w.acme(), &recordingv1.StartRecordingRequest{Parent: "orgs/acme", Room: room})
	require.NoError(t, err)
	name := r.GetRecording().GetName()
	require.Eventually(t, func() bool { return len(w.get(name).GetTracks()) == 2 }, 10*time.Second, 50*time.Millisecond)
	time.Sleep(6 * time.Second)
	kill()
	w.spawn()
	w.up()
	time.Sleep(4 * time.Second)
	require.Equal(t, recordingv1.Recording_STATE_ACTIVE, w.get(name).GetState())
	_, err = w.recordings.StopRecording(w.acme(), &recordingv1.StopRecordingRequest{Name: name})
	require.NoError(t, err)
	rec := w.becomes(name, recordingv1.Recording_STATE_STORED)
	require.Len(t, rec.GetTracks(), 2, "the same tracks go on in the same files")
	for _, track := range rec.GetTracks() {
		times := decode(t, track.GetStream(), w.read(name, track.GetStream()))
		lost := pause(times)
		t.Logf("%s: %v missing", track.GetStream(), lost)
		require.Less(t, lost, 2*time.Second)
		require.Greater(t, times[len(times)-1]-times[0], 9*time.Second)
		i := slices.IndexFunc(rec.GetGaps(), func(g *recordingv1.Gap) bool {
			return g.GetStream() == track.GetStream() && g.GetReason() == "interrupted"
		})
		require.GreaterOrEqual(t, i, 0, "the gap of %s is stated: %v", track.GetStream(), rec.GetGaps())
	}
}

// testRestarted stops the process gracefully: the next one resumes the
// recording.
func testRestarted(t *testing.T, w *world) {
	stop := w.serve()
	room := w.room()
	p := w.publish(room, "ann", clip(t))
	r, err := w.recordings.StartRecording(w.acme(), &recordingv1.StartRecordingRequest{Parent: "orgs/acme", Room: room})
	require.NoError(t, err)
	name := r.GetRecording().GetName()
	require.Eventually(t, func() bool { return len(w.get(name).GetTracks()) == 2 }, 10*time.Second, 50*time.Millisecond)
	time.Sleep(2 * time.Second)
	stop()
	require.NoError(t, p.Close())
	w.serve()
	require.Equal(t, recordingv1.Recording_STATE_ACTIVE, w.get(name).GetState())
	w.publish(room, "bob", clip(t))
	require.Eventually(t, func() bool { return len(w.get(name).GetTracks()) == 4 }, 10*time.Second, 50*time.Millisecond)
	time.Sleep(time.Second)
	_, err = w.recordings.StopRecording(w.acme(), &recordingv1.StopRecordingRequest{Name: name})
	require.NoError(t, err)
	rec := w.becomes(name, recordingv1.Recording_STATE_STORED)
	for _, track := range rec.GetTracks() {
		decode(t, track.GetStream(), w.read(name, track.GetStream()))
	}
}

// testRoomOpenedAgain kills the recorder's process; before the next one starts,
// the room ends and another one of its name is created, which must not be
// recorded.
func testRoomOpenedAgain(t *testing.T, lk *stack.LiveKit, objects *stack.S3) {
	db, live := stacktest.Postgres(t), stacktest.Redis(t)
	a := newWorld(t, lk, objects, func(s *setup) { s.Postgres, s.Redis = db.URL, live.URL })
	b := a.replica()
	kill := a.spawn()
	a.up()
	b.serve()
	create := func() string {
		made, err := b.rooms.CreateRoom(b.acme(), &roomv1.CreateRoomRequest{Parent: "orgs/acme", RoomId: "again"})
		require.NoError(t, err)
		return made.GetRoom().GetName()
	}
	room := create()
	a.publish(room, "ann", clip(t))
	r, err := a.recordings.StartRecording(a.acme(), &recordingv1.StartRecordingRequest{Parent: "orgs/acme", Room: room, Mode: recordingv1.Mode_MODE_REQUIRED})
	require.NoError(t, err)
	name := r.GetRecording().GetName()
	require.Eventually(t, func() bool { return len(a.get(name).GetTracks()) == 2 }, 10*time.Second, 50*time.Millisecond)
	kill()
	_, err = b.rooms.DeleteRoom(b.acme(), &roomv1.DeleteRoomRequest{Name: room})
	require.NoError(t, err)
	require.Equal(t, room, create())
	b.publish(room, "bob", clip(t))
	a.spawn()
	rec := b.becomes(name, recordingv1.Recording_STATE_STORED)
	require.Equal(t, "room_ended", rec.GetEndReason())
	for _, track := range rec.GetTracks() {
		require.Equal(t, "ann", track.GetParticipantIdentity())
	}
	got, err := b.rooms.GetRoom(b.acme(), &roomv1.GetRoomRequest{Name: room})
	require.NoError(t, err)
	require.Equal(t, roomv1.Room_STATE_OPEN, got.GetRoom().GetState())
}

func testLiveKitAway(t *testing.T, lk *stack.LiveKit, objects *stack.S3) {
	w := newWorld(t, lk, objects, nil)
	stop := w.serve()
	room := w.room()
	stop()
	w.setup.LiveKit, w.setup.JoinTimeout = "http://127.0.0.1:9", 3*time.Second
	w.serve()
	req := &recordingv1.StartRecordingRequest{Parent: "orgs/acme", Room: room, RequestId: uuid.NewString()}
	_, err := w.recordings.StartRecording(w.acme(), req)
	fails(t, err, codes.Unavailable, "LIVEKIT_UNAVAILABLE")
	list, err := w.recordings.ListRecordings(w.acme(), &recordingv1.ListRecordingsRequest{Parent: "orgs/acme"})
	require.NoError(t, err)
	require.Len(t, list.GetRecordings(), 1)
	require.Equal(t, recordingv1.Recording_STATE_FAILED, list.GetRecordings()[0].GetState())
	require.NotEmpty(t, list.GetRecordings()[0].GetError())
	require.NotContains(t, list.GetRecordings()[0].GetError(), "127.0.0.1", "only the log names our servers")
	_, err = w.recordings.StartRecording(w.acme(), req)
	fails(t, err, codes.Unavailable, "LIVEKIT_UNAVAILABLE")

	req.RequestId = uuid.NewString()
	started := make(chan error, 1)
	go func() {
		_, err := w.recordings.StartRecording(w.acme(), req)
		started <- err
	}()
	require.Eventually(t, func() bool {
		list, err := w.recordings.ListRecordings(w.acme(), &recordingv1.ListRecordingsRequest{Parent: "orgs/acme"})
		require.NoError(t, err)
		last := list.GetRecordings()[len(list.GetRecordings())-1]
		if last.GetState() != recordingv1.Recording_STATE_STARTING {
			return false
		}
		_, err = w.recordings.StopRecording(w.acme(), &recordingv1.StopRecordingRequest{Name: last.GetName()})
		return err == nil
	}, 5*time.Second, 5*time.Millisecond)
	fails(t, <-started, codes.FailedPrecondition, "RECORDING_NOT_STARTED")
}

// testSpoolFull makes a required recording while the object store is away, into
// a spool that fills up soon: the room ends.
func testSpoolFull(t *testing.T, lk *stack.LiveKit, objects *stack.S3) {
	w := newWorld(t, lk, objects, func(s *setup) { s.S3, s.MaxSpool = "http://127.0.0.1:9", 150_000 })
	w.serve()
	room := w.room()
	p := w.publish(room, "ann", clip(t))
	r, err := w.recordings.StartRecording(w.acme(), &recordingv1.StartRecordingRequest{Parent: "orgs/acme", Room: room, Mode: recordingv1.Mode_MODE_REQUIRED})
	require.NoError(t, err)
	select {
	case <-p.Done():
	case <-time.After(20 * time.Second):
		require.FailNow(t, "the call continues unrecorded")
	}
	rec := w.becomes(r.GetRecording().GetName(), recordingv1.Recording_STATE_STOPPING)
	require.Equal(t, "spool_full", rec.GetEndReason())
	require.Equal(t, recordingv1.Mode_MODE_REQUIRED, rec.GetMode())
}

// testReplicas runs two processes on PostgreSQL and Redis: each sees the other's
// recordings, does not touch them while their recorder lives, and finishes them
// when it is lost with its host.
func testReplicas(t *testing.T, lk *stack.LiveKit, objects *stack.S3) {
	db, live := stacktest.Postgres(t), stacktest.Redis(t)
	a := newWorld(t, lk, objects, func(s *setup) { s.Postgres, s.Redis, s.Patience = db.URL, live.URL, time.Second })
	b := a.replica()
	kill := a.spawn()
	a.up()
	b.spawn()
	b.up()
	room := a.room()
	a.publish(room, "ann", clip(t))
	start := func(mode recordingv1.Mode) string {
		r, err := a.recordings.StartRecording(a.acme(), &recordingv1.StartRecordingRequest{Parent: "orgs/acme", Room: room, Mode: mode})
		require.NoError(t, err)
		return r.GetRecording().GetName()
	}
	name := start(recordingv1.Mode_MODE_BEST_EFFORT)
	_, err := b.recordings.StartRecording(b.acme(), &recordingv1.StartRecordingRequest{Parent: "orgs/acme", Room: room})
	fails(t, err, codes.AlreadyExists, "RECORDING_RUNNING")
	recorded := func(name string) {
		require.Eventually(t, func() bool { return len(b.get(name).GetTracks()) == 2 }, 10*time.Second, 50*time.Millisecond)
	}
	recorded(name)
	time.Sleep(8 * time.Second) // longer than a lease and a sweep
	require.Equal(t, recordingv1.Recording_STATE_ACTIVE, b.get(name).GetState())
	_, err = b.recordings.StopRecording(b.acme(), &recordingv1.StopRecordingRequest{Name: name})
	require.NoError(t, err)
	r := b.becomes(name, recordingv1.Recording_STATE_STORED)
	require.Equal(t, "stopped", r.GetEndReason())
	require.Empty(t, lost(r))
	for _, track := range r.GetTracks() {
		times := decode(t, track.GetStream(), b.read(name, track.GetStream()))
		require.Greater(t, times[len(times)-1]-times[0], 7*time.Second)
	}

	name = start(recordingv1.Mode_MODE_REQUIRED)
	recorded(name)
	time.Sleep(6 * time.Second) // the first segments are stored
	kill()
	r = b.becomes(name, recordingv1.Recording_STATE_STORED)
	require.Equal(t, "recorder_lost", r.GetEndReason())
	got, err := b.rooms.GetRoom(b.acme(), &roomv1.GetRoomRequest{Name: room})
	require.NoError(t, err)
	require.Equal(t, roomv1.Room_STATE_ENDED, got.GetRoom().GetState(), "a call that must be recorded does not continue without its recorder")
	require.Len(t, r.GetTracks(), 2)
	for _, track := range r.GetTracks() {
		decode(t, track.GetStream(), b.read(name, track.GetStream()))
	}
}
