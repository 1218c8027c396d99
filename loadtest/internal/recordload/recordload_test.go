package recordload_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"

	recordingv1 "github.com/openova-io/bp-relay/gen/relay/recording/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/loadtest/internal/apiload/relay"
	"github.com/openova-io/bp-relay/loadtest/internal/apiload/relay/relaytest"
	"github.com/openova-io/bp-relay/loadtest/internal/recordload"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
	"github.com/openova-io/bp-relay/services/dev/testmedia"
)

// stack is a relay with publishers.
type stack struct {
	t      *testing.T
	proc   *relay.Instance
	target relay.Target
	rooms  roomv1.RoomServiceClient
}

func newStack(t *testing.T) *stack {
	p := relaytest.Start(t)
	s := &stack{t: t, proc: p, target: relaytest.Target(t, p)}
	conn, err := s.target.Dial()
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	s.rooms = roomv1.NewRoomServiceClient(conn)
	return s
}

func (s *stack) room() string {
	a, err := s.rooms.CreateRoom(s.t.Context(), &roomv1.CreateRoomRequest{Parent: s.target.Parent()})
	require.NoError(s.t, err)
	return a.GetRoom().GetName()
}

// publish sends a small video and a tone into a room until the test ends.
func (s *stack) publish(room string) *testmedia.Publisher {
	cache, err := os.UserCacheDir()
	require.NoError(s.t, err)
	clip, err := testmedia.Make(s.t.Context(), filepath.Join(cache, "bp-relay", "media"), testmedia.Spec{Width: 160, Height: 90, FPS: 15, Bitrate: 100, Tone: 440, Length: 5 * time.Second})
	require.NoError(s.t, err)
	join, err := s.rooms.JoinRoom(s.t.Context(), &roomv1.JoinRoomRequest{Name: room, Identity: "p", Grants: &roomv1.Grants{Publish: true}})
	require.NoError(s.t, err)
	p, err := testmedia.Publish(s.t.Context(), testmedia.PublishConfig{URL: join.GetUrl(), Token: join.GetToken(), Clip: clip})
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = p.Close() })
	return p
}

func (s *stack) controller(change func(*recordload.Config)) *recordload.Controller {
	cfg := recordload.Config{Target: s.target}
	if change != nil {
		change(&cfg)
	}
	c, err := recordload.New(cfg)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (s *stack) get(name string) *recordingv1.Recording {
	conn, err := s.target.Dial()
	require.NoError(s.t, err)
	defer conn.Close()
	a, err := recordingv1.NewRecordingServiceClient(conn).GetRecording(s.t.Context(), &recordingv1.GetRecordingRequest{Name: name})
	require.NoError(s.t, err)
	return a.GetRecording()
}

// Two rooms with a publisher each, and one that does not exist: recordings are
// stored, and what is stored is counted.
func TestRoomsAreRecorded(t *testing.T) {
	s := newStack(t)
	a, b := s.room(), s.room()
	leak := goleak.IgnoreCurrent()
	pa, pb := s.publish(a), s.publish(b)
	c := s.controller(nil)
	began, before := time.Now(), pa.Sent()
	require.NoError(t, c.Start(t.Context(), []string{a, b, s.target.Parent() + "/rooms/not-there"}))
	require.ErrorIs(t, c.Start(t.Context(), []string{a}), recordload.ErrState)
	const media = 4 * time.Second
	time.Sleep(media) // the duration of the media, not a wait
	got, err := c.Stop(t.Context())
	took, sent := time.Since(began), pa.Sent()-before
	require.NoError(t, err)
	require.Equal(t, 2, got.Started, "%v", c.Errors())
	require.Equal(t, 2, got.Sealed)
	require.Equal(t, 1, got.Failed)
	require.Equal(t, 4, got.Tracks, "a video and a tone each")
	require.EqualValues(t, 2, got.Start.Count())
	require.EqualValues(t, 2, got.Stop.Count())
	require.Positive(t, got.Start.Min())
	require.Equal(t, []result.ErrorLine{{Text: c.Errors()[0].Text, Count: 1}}, c.Errors())
	require.True(t, strings.HasPrefix(c.Errors()[0].Text, "start: NotFound ROOM_NOT_FOUND"), c.Errors()[0].Text)
	// 15 frames and 50 audio packets a second in each of two rooms.
	perSecond := 2 * (15 + 50.0)
	require.Greater(t, float64(got.Packets), 0.75*perSecond*media.Seconds())
	require.Less(t, float64(got.Packets), 1.05*perSecond*took.Seconds())
	require.Greater(t, got.Bytes, sent, "both rooms' media and framing")
	require.Less(t, got.Bytes, 4*sent)
	recs := c.Recorded()
	require.Len(t, recs, 3)
	require.Nil(t, recs[2])
	var bytes int64
	for i, room := range []string{a, b} {
		require.Equal(t, room, recs[i].GetRoom())
		stored := s.get(recs[i].GetName())
		require.Equal(t, recordingv1.Recording_STATE_STORED, stored.GetState())
		require.NotEmpty(t, stored.GetManifestSha256())
		for _, tr := range stored.GetTracks() {
			bytes += tr.GetSizeBytes()
		}
	}
	require.Equal(t, bytes, got.Bytes)
	_, err = c.Stop(t.Context())
	require.ErrorIs(t, err, recordload.ErrState)
	// Publishers start a goroutine for each packet they read: close them first.
	require.NoError(t, errors.Join(c.Close(), pa.Close(), pb.Close()))
	require.NoError(t, stacktest.Leaks(leak))
}

// A room that ends stops its recording: the controller notices, and what was
// recorded until then counts.
func TestARecordingThatEndsEarlyIsNoticed(t *testing.T) {
	s := newStack(t)
	room := s.room()
	s.publish(room)
	c := s.controller(nil)
	require.NoError(t, c.Start(t.Context(), []string{room}))
	_, err := s.rooms.DeleteRoom(t.Context(), &roomv1.DeleteRoomRequest{Name: room})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(c.Errors()) > 0 }, 15*time.Second, 20*time.Millisecond)
	require.True(t, strings.HasPrefix(c.Errors()[0].Text, "ended early"), c.Errors()[0].Text)
	got, err := c.Stop(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, got.Sealed, "%v", c.Errors())
	require.EqualValues(t, 1, c.Errors()[0].Count, "once, although it is polled each second")
}

func TestARelayThatGoesAwayMakesFailures(t *testing.T) {
	s := newStack(t)
	a, b := s.room(), s.room()
	s.publish(a)
	c := s.controller(nil)
	require.NoError(t, c.Start(t.Context(), []string{a, b}))
	require.NoError(t, syscall.Kill(s.proc.Pid(), syscall.SIGKILL))
	<-s.proc.Done()
	began := time.Now()
	got, err := c.Stop(t.Context())
	require.NoError(t, err, "relay's failures are the result, not an error")
	require.Less(t, time.Since(began), 10*time.Second)
	require.Equal(t, 2, got.Started)
	require.Equal(t, 2, got.Failed)
	require.Zero(t, got.Sealed)
	require.True(t, strings.HasPrefix(c.Errors()[0].Text, "stop: Unavailable"), "%v", c.Errors())
}

// An interrupted run leaves no recorder in a room.
func TestStoppedThoughInterrupted(t *testing.T) {
	s := newStack(t)
	room := s.room()
	s.publish(room)
	c := s.controller(func(c *recordload.Config) { c.NoReadBack = true })
	require.NoError(t, c.Start(t.Context(), []string{room}))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	got, err := c.Stop(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 1, got.Sealed+got.Failed)
	require.Zero(t, got.Packets)
	require.Eventually(t, func() bool {
		return s.get(c.Recorded()[0].GetName()).GetState() == recordingv1.Recording_STATE_STORED
	}, 20*time.Second, 50*time.Millisecond)
}

func TestRefusedBeforeAnything(t *testing.T) {
	s := newStack(t)
	c := s.controller(func(c *recordload.Config) { c.Target.Token = func() (string, error) { return "nonsense", nil } })
	err := c.Start(t.Context(), []string{s.room()})
	var refused *relay.RefusedError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, codes.Unauthenticated, refused.Code)
	require.ErrorContains(t, err, "RELAY_TOKEN")
	_, err = c.Stop(t.Context())
	require.ErrorIs(t, err, recordload.ErrState)
}
