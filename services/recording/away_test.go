package recording_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	recordingv1 "github.com/openova-io/bp-relay/gen/relay/recording/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/services/dev/stack"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
)

// testSpoolFullRecordsAway: the spool of a required recording is full while neither
// the object store nor the records answer. Its call ends at once, and the records
// learn of it when they are back. Then nothing more begins: it would end the same way.
func testSpoolFullRecordsAway(t *testing.T, lk *stack.LiveKit, objects *stack.S3) {
	db, live := stacktest.Postgres(t), stacktest.Redis(t)
	way, postgres := stacktest.NewCable(t, db.URL)
	w := newWorld(t, lk, objects, func(s *setup) {
		s.Postgres, s.Redis, s.S3, s.MaxSpool, s.Share = postgres, live.URL, "http://127.0.0.1:9", 800_000, 200_000
	})
	w.serve()
	room := w.room()
	p := w.publish(room, "ann", clip(t))
	r, err := w.recordings.StartRecording(w.acme(), &recordingv1.StartRecordingRequest{Parent: "orgs/acme", Room: room, Mode: recordingv1.Mode_MODE_REQUIRED})
	require.NoError(t, err)
	select {
	case <-p.Done():
		require.FailNow(t, "the spool was full before the records were away")
	default:
	}
	way.Cut()
	select {
	case <-p.Done():
	case <-time.After(30 * time.Second):
		require.FailNow(t, "the call continues unrecorded")
	}
	way.Mend()
	rec := w.becomes(r.GetRecording().GetName(), recordingv1.Recording_STATE_STOPPING)
	require.Equal(t, "spool_full", rec.GetEndReason())
	require.Eventually(t, func() bool {
		got, err := w.rooms.GetRoom(w.acme(), &roomv1.GetRoomRequest{Name: room})
		return err == nil && got.GetRoom().GetState() == roomv1.Room_STATE_ENDED
	}, 20*time.Second, 100*time.Millisecond, "the records learn of it")

	other := w.room()
	_, err = w.recordings.StartRecording(w.acme(), &recordingv1.StartRecordingRequest{
		Parent: "orgs/acme", Room: other, Mode: recordingv1.Mode_MODE_REQUIRED, RequestId: uuid.NewString(),
	})
	fails(t, err, codes.FailedPrecondition, "SPOOL_FULL")
	w.open(other)
}
