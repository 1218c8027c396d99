package recording_test

import (
	"context"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	recordingv1 "github.com/openova-io/bp-relay/gen/relay/recording/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/services/dev/stack"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
	"github.com/openova-io/bp-relay/services/dev/testmedia"
	"github.com/openova-io/bp-relay/services/records"
)

func (w *world) token(room, identity string) *roomv1.JoinRoomResponse {
	w.t.Helper()
	join, err := w.rooms.JoinRoom(w.acme(), &roomv1.JoinRoomRequest{Name: room, Identity: identity, Grants: &roomv1.Grants{Publish: true, Subscribe: true}})
	require.NoError(w.t, err)
	return join
}

func (w *world) publishWith(join *roomv1.JoinRoomResponse, clip *testmedia.Clip) {
	w.t.Helper()
	p, err := testmedia.Publish(w.t.Context(), testmedia.PublishConfig{URL: join.GetUrl(), Token: join.GetToken(), Clip: clip})
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = p.Close() })
}

func (w *world) open(room string) {
	w.t.Helper()
	got, err := w.rooms.GetRoom(w.acme(), &roomv1.GetRoomRequest{Name: room})
	require.NoError(w.t, err)
	require.Equal(w.t, roomv1.Room_STATE_OPEN, got.GetRoom().GetState())
}

// testRecordsAway: the records are away from one replica for 6 s while somebody
// turns a camera on. The room of the required recording stays, and the track is in
// the recording from its beginning.
func testRecordsAway(t *testing.T, lk *stack.LiveKit, objects *stack.S3) {
	db, live := stacktest.Postgres(t), stacktest.Redis(t)
	way, postgres := stacktest.NewCable(t, db.URL)
	a := newWorld(t, lk, objects, func(s *setup) { s.Postgres, s.Redis = postgres, live.URL })
	b := a.replica()
	b.setup.Postgres = db.URL
	a.serve()
	b.serve()
	room := a.room()
	a.publish(room, "ann", clip(t))
	r, err := a.recordings.StartRecording(a.acme(), &recordingv1.StartRecordingRequest{Parent: "orgs/acme", Room: room, Mode: recordingv1.Mode_MODE_REQUIRED})
	require.NoError(t, err)
	name := r.GetRecording().GetName()
	require.Eventually(t, func() bool { return len(b.get(name).GetTracks()) == 2 }, 10*time.Second, 50*time.Millisecond)
	join := a.token(room, "bob")
	way.Cut()
	a.publishWith(join, clip(t))
	time.Sleep(6 * time.Second)
	require.Equal(t, recordingv1.Recording_STATE_ACTIVE, b.get(name).GetState())
	b.open(room)
	way.Mend()
	require.Eventually(t, func() bool { return len(b.get(name).GetTracks()) == 4 }, 30*time.Second, 50*time.Millisecond, "the records learn of the streams")
	b.open(room)
	_, err = b.recordings.StopRecording(b.acme(), &recordingv1.StopRecordingRequest{Name: name})
	require.NoError(t, err)
	rec := b.becomes(name, recordingv1.Recording_STATE_STORED)
	require.Equal(t, "stopped", rec.GetEndReason())
	require.Len(t, rec.GetTracks(), 4)
	for _, track := range rec.GetTracks() {
		times := decode(t, track.GetStream(), b.read(name, track.GetStream()))
		require.Greater(t, times[len(times)-1]-times[0], 5*time.Second, "what came in while the records were away")
	}
	b.open(room)
}

// testRedisForgets: Redis loses its memory, and is then away from the replica
// that records for longer than any lease. Its recording goes on, the other one
// takes nothing, and the room stays.
func testRedisForgets(t *testing.T, lk *stack.LiveKit, objects *stack.S3) {
	db, live := stacktest.Postgres(t), stacktest.Redis(t)
	way, redis := stacktest.NewCable(t, live.URL)
	a := newWorld(t, lk, objects, func(s *setup) { s.Postgres, s.Redis, s.Patience = db.URL, redis, 4*time.Second })
	b := a.replica()
	b.setup.Redis = live.URL
	a.serve()
	b.serve()
	room := a.room()
	a.publish(room, "ann", clip(t))
	r, err := a.recordings.StartRecording(a.acme(), &recordingv1.StartRecordingRequest{Parent: "orgs/acme", Room: room, Mode: recordingv1.Mode_MODE_REQUIRED})
	require.NoError(t, err)
	name := r.GetRecording().GetName()
	require.Eventually(t, func() bool { return len(b.get(name).GetTracks()) == 2 }, 10*time.Second, 50*time.Millisecond)
	options, err := goredis.ParseURL(live.URL)
	require.NoError(t, err)
	client := goredis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	require.NoError(t, client.FlushAll(t.Context()).Err())
	way.Cut()
	require.NoError(t, client.FlushAll(t.Context()).Err())
	time.Sleep(20 * time.Second) // three sweeps, five times the patience
	require.Equal(t, recordingv1.Recording_STATE_ACTIVE, b.get(name).GetState())
	b.open(room)
	way.Mend()
	_, err = b.recordings.StopRecording(b.acme(), &recordingv1.StopRecordingRequest{Name: name})
	require.NoError(t, err)
	rec := b.becomes(name, recordingv1.Recording_STATE_STORED)
	require.Equal(t, "stopped", rec.GetEndReason())
	require.Empty(t, lost(rec))
	for _, track := range rec.GetTracks() {
		times := decode(t, track.GetStream(), b.read(name, track.GetStream()))
		require.Greater(t, times[len(times)-1]-times[0], 19*time.Second)
	}
	b.open(room)
}

// lateRecords commit the activation of a recording, and then say, only once they
// are released, that they do not answer.
type lateRecords struct {
	records.DB
	release chan struct{}
}

func (l *lateRecords) Update(ctx context.Context, fn func(tx records.Tx) error) error {
	activation := false
	err := l.DB.Update(ctx, func(tx records.Tx) error {
		seen := &watchedTx{Tx: tx}
		err := fn(seen)
		activation = seen.activation
		return err
	})
	if err == nil && activation {
		<-l.release
		return records.ErrUnavailable
	}
	return err
}

type watchedTx struct {
	records.Tx
	activation bool
}

func (w *watchedTx) Update(ctx context.Context, r records.Record) (records.Record, error) {
	w.activation = w.activation || r.Kind == records.Recordings && r.State == "ACTIVE"
	return w.Tx.Update(ctx, r)
}

// testActivationLost: the change to ACTIVE was committed and is reported as lost;
// then the recording is stopped. It has recorded, so it is stored.
func testActivationLost(t *testing.T, lk *stack.LiveKit, objects *stack.S3) {
	w := newWorld(t, lk, objects, nil)
	late := &lateRecords{release: make(chan struct{})}
	w.setup.wrap = func(db records.DB) records.DB { late.DB = db; return late }
	w.serve()
	room := w.room()
	w.publish(room, "ann", clip(t))
	var calls sync.WaitGroup
	calls.Go(func() {
		_, _ = w.recordings.StartRecording(w.acme(), &recordingv1.StartRecordingRequest{Parent: "orgs/acme", Room: room})
	})
	var name string
	require.Eventually(t, func() bool {
		list, err := w.recordings.ListRecordings(w.acme(), &recordingv1.ListRecordingsRequest{Parent: "orgs/acme"})
		require.NoError(t, err)
		if len(list.GetRecordings()) == 0 || list.GetRecordings()[0].GetState() != recordingv1.Recording_STATE_ACTIVE {
			return false
		}
		name = list.GetRecordings()[0].GetName()
		return true
	}, 20*time.Second, 20*time.Millisecond)
	require.Eventually(t, func() bool { return len(w.get(name).GetTracks()) == 2 }, 10*time.Second, 50*time.Millisecond)
	time.Sleep(2 * time.Second)
	calls.Go(func() {
		_, err := w.recordings.StopRecording(w.acme(), &recordingv1.StopRecordingRequest{Name: name})
		assert.NoError(t, err)
	})
	w.becomes(name, recordingv1.Recording_STATE_STOPPING)
	close(late.release)
	calls.Wait()
	rec := w.becomes(name, recordingv1.Recording_STATE_STORED)
	require.Len(t, rec.GetTracks(), 2)
	require.NotNil(t, rec.GetStartTime())
	for _, track := range rec.GetTracks() {
		decode(t, track.GetStream(), w.read(name, track.GetStream()))
	}
}
