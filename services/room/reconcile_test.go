package room_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	lkauth "github.com/livekit/protocol/auth"
	lk "github.com/livekit/protocol/livekit"
	lksdk "github.com/livekit/server-sdk-go/v2"
	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/twitchtv/twirp"
	"google.golang.org/protobuf/types/known/durationpb"

	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/services/dev/part"
	"github.com/openova-io/bp-relay/services/dev/stack"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
	"github.com/openova-io/bp-relay/services/internal/alarm"
	"github.com/openova-io/bp-relay/services/livekit"
	"github.com/openova-io/bp-relay/services/room"
)

// onRedis is a fixture whose LiveKit keeps its list in a real Redis, as a
// cluster does, and makes no room by itself.
func onRedis(t *testing.T) (*fixture, *goredis.Client) {
	t.Helper()
	r := stacktest.Redis(t)
	f := newFixtureOn(t, func(hook string) *stack.LiveKit {
		srv, err := stacktest.Env(t, part.LiveKit).StartLiveKit(context.Background(), stack.LiveKitConfig{
			Webhooks: []string{hook},
			Overrides: map[string]any{
				"redis": map[string]any{"address": r.Address, "password": r.Password},
				"room":  map[string]any{"auto_create": false},
			},
		})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, srv.Stop()) })
		return srv
	})
	c := goredis.NewClient(&goredis.Options{Addr: r.Address, Password: r.Password})
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return f, c
}

func (f *fixture) create(t *testing.T, id string) *roomv1.Room {
	t.Helper()
	made, err := f.CreateRoom(as(t.Context()), &roomv1.CreateRoomRequest{Parent: "orgs/acme", RoomId: id})
	require.NoError(t, err)
	return made.GetRoom()
}

// enter joins the room with the SDK; left receives when it was disconnected.
func (f *fixture) enter(t *testing.T, name, identity string) (in *lksdk.Room, left chan struct{}) {
	t.Helper()
	answer, err := f.JoinRoom(as(t.Context()), &roomv1.JoinRoomRequest{Name: name, Identity: identity, Grants: &roomv1.Grants{Subscribe: true}})
	require.NoError(t, err)
	left = make(chan struct{})
	in, err = lksdk.ConnectToRoomWithToken(answer.GetUrl(), answer.GetToken(), &lksdk.RoomCallback{OnDisconnected: func() { close(left) }})
	require.NoError(t, err)
	t.Cleanup(in.Disconnect)
	return in, left
}

func (f *fixture) get(t *testing.T, name string) *roomv1.Room {
	t.Helper()
	got, err := f.GetRoom(as(t.Context()), &roomv1.GetRoomRequest{Name: name})
	require.NoError(t, err)
	return got.GetRoom()
}

// reconcile runs the reconciler until the test ends.
func (f *fixture) reconcile(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
}

func (f *fixture) client(t *testing.T) *livekit.Client {
	t.Helper()
	return client(t, livekit.Config{URL: f.livekit.URL, Key: f.livekit.Key, Secret: f.livekit.Secret})
}

// listed are LiveKit's rooms, as it says itself.
func (f *fixture) listed(t *testing.T) []*lk.Room {
	t.Helper()
	token, err := lkauth.NewAccessToken(f.livekit.Key, f.livekit.Secret).
		SetVideoGrant(&lkauth.VideoGrant{RoomList: true}).SetValidFor(time.Minute).ToJWT()
	require.NoError(t, err)
	ctx, err := twirp.WithHTTPRequestHeaders(t.Context(), http.Header{"Authorization": {"Bearer " + token}})
	require.NoError(t, err)
	list, err := lk.NewRoomServiceProtobufClient(f.livekit.URL, http.DefaultClient).ListRooms(ctx, &lk.ListRoomsRequest{})
	require.NoError(t, err)
	return list.GetRooms()
}

// finished posts a room_finished about the room as LiveKit would.
func (f *fixture) finished(t *testing.T, name string) {
	t.Helper()
	list, err := f.client(t).ListRooms(t.Context(), name)
	require.NoError(t, err)
	require.Len(t, list, 1)
	body := fmt.Sprintf(`{"event":"room_finished","id":"EV_%d","createdAt":"%d","room":{"name":%q,"sid":%q,"creationTime":"1"}}`,
		time.Now().UnixNano(), time.Now().Unix(), name, list[0].SID)
	sum := sha256.Sum256([]byte(body))
	token, err := lkauth.NewAccessToken(f.livekit.Key, f.livekit.Secret).SetValidFor(time.Minute).
		SetSha256(base64.StdEncoding.EncodeToString(sum[:])).ToJWT()
	require.NoError(t, err)
	mux := http.NewServeMux()
	f.Routes(mux)
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, room.WebhookPath, strings.NewReader(body))
	r.Header.Set("Authorization", token)
	mux.ServeHTTP(w, r)
	require.Equal(t, http.StatusOK, w.Code, w.Body)
}

// LiveKit's Redis loses everything while people are in rooms: its list is
// empty, and no room ends. A room is deleted although LiveKit has lost it.
func TestTheRedisOfLiveKitForgets(t *testing.T) {
	f, redis := onRedis(t)
	ctx := as(t.Context())
	var names []string
	var janes []chan struct{}
	for i := range 5 {
		names = append(names, f.create(t, fmt.Sprintf("r%d", i)).GetName())
		_, left := f.enter(t, names[i], "jane")
		janes = append(janes, left)
	}
	joe, _ := f.enter(t, names[0], "joe")
	require.NoError(t, redis.FlushAll(t.Context()).Err())
	require.Empty(t, f.listed(t), "the fault: LiveKit says that it has no rooms")
	f.reconcile(t)
	time.Sleep(3 * time.Second) // 15 passes: one was enough to end all rooms
	for _, name := range names {
		require.Equal(t, roomv1.Room_STATE_OPEN, f.get(t, name).GetState(), name)
	}
	open, err := alarm.List(t.Context(), f.records)
	require.NoError(t, err)
	require.Empty(t, open, "the rooms' node says that they live: nobody is asked")

	// LiveKit lists a room again when it changes. If it does so already, the room
	// is deleted; if not, DeleteRoom says so and the reconciler deletes it then.
	if _, err = f.DeleteRoom(ctx, &roomv1.DeleteRoomRequest{Name: names[0]}); err != nil {
		require.Equal(t, "LIVEKIT_UNAVAILABLE", reason(err))
		joe.Disconnect()
	}
	require.Equal(t, roomv1.Room_STATE_ENDED, f.get(t, names[0]).GetState())
	select {
	case <-janes[0]:
	case <-time.After(30 * time.Second):
		t.Fatal("the deleted room lives on")
	}
	require.Equal(t, "deleted", f.get(t, names[0]).GetEndReason())
	lives, err := f.client(t).Lives(ctx, names[0])
	require.NoError(t, err)
	require.False(t, lives)
}

// A room lives although its record has ended: it is opened again, marked. One
// that was deleted is not: it is deleted in LiveKit, too.
func TestALivingRoomIsOpenAgain(t *testing.T) {
	f := newFixture(t)
	ctx := as(t.Context())
	lives, dead := f.create(t, "lives"), f.create(t, "dead")
	_, left := f.enter(t, lives.GetName(), "jane")
	f.finished(t, lives.GetName())
	got := f.get(t, lives.GetName())
	require.Equal(t, "ENDED empty", strings.TrimPrefix(got.GetState().String(), "STATE_")+" "+got.GetEndReason())
	_, err := f.DeleteRoom(ctx, &roomv1.DeleteRoomRequest{Name: dead.GetName()})
	require.NoError(t, err)
	_, err = f.client(t).CreateRoom(ctx, livekit.RoomSpec{Name: dead.GetName(), EmptyTimeout: time.Minute})
	require.NoError(t, err, "somebody's LiveKit has it still")
	f.reconcile(t)
	require.Eventually(t, func() bool { return f.get(t, lives.GetName()).GetState() == roomv1.Room_STATE_OPEN }, 20*time.Second, 50*time.Millisecond)
	got = f.get(t, lives.GetName())
	require.Equal(t, lives.GetUid(), got.GetUid(), "it is the same room")
	require.Empty(t, got.GetEndReason())
	require.Nil(t, got.GetEndTime())
	require.WithinDuration(t, time.Now(), got.GetReopenTime().AsTime(), time.Minute)
	require.Contains(t, f.events(t), "room.reopened")
	select {
	case <-left:
		t.Fatal("nobody was disconnected")
	default:
	}
	require.Eventually(t, func() bool { return len(f.listed(t)) == 1 }, 20*time.Second, 50*time.Millisecond, "the deleted room is deleted again")
	require.Equal(t, roomv1.Room_STATE_ENDED, f.get(t, dead.GetName()).GetState())

	// A record that has ended does not stand between DeleteRoom and LiveKit.
	f.finished(t, lives.GetName())
	_, err = f.DeleteRoom(ctx, &roomv1.DeleteRoomRequest{Name: lives.GetName()})
	require.NoError(t, err)
	select {
	case <-left:
	case <-time.After(20 * time.Second):
		t.Fatal("DeleteRoom did not reach LiveKit")
	}
	require.Equal(t, "deleted", f.get(t, lives.GetName()).GetEndReason())
}

// LiveKit restarts and has no room any more: most end at once, so none ends
// until an operator has said so.
func TestManyRoomsEndOnlyIfAnOperatorSaysSo(t *testing.T) {
	f := newFixture(t)
	for i := range 6 {
		f.create(t, fmt.Sprintf("r%d", i))
	}
	open := func() (n int) {
		list, err := f.ListRooms(as(t.Context()), &roomv1.ListRoomsRequest{Parent: "orgs/acme", State: roomv1.Room_STATE_OPEN})
		require.NoError(t, err)
		return len(list.GetRooms())
	}
	state := func() alarm.State {
		a, err := alarm.Get(t.Context(), f.records, room.MissingAlarm)
		require.NoError(t, err)
		return a.State
	}
	require.NoError(t, f.livekit.Process.Kill())
	require.NoError(t, f.livekit.Process.Restart(t.Context()))
	f.reconcile(t)
	require.Eventually(t, func() bool { return state() == alarm.Open }, 30*time.Second, 50*time.Millisecond, "an operator is asked")
	require.Equal(t, 6, open())
	require.NoError(t, alarm.Answer(t.Context(), f.records, room.MissingAlarm, "keep", "jane"))
	time.Sleep(5 * time.Second) // two passes and their questions
	require.Equal(t, 6, open())
	_, err := alarm.Raise(t.Context(), f.records, alarm.Alarm{Name: room.MissingAlarm, Choices: []alarm.Choice{{Answer: "end"}}})
	require.NoError(t, err)
	require.NoError(t, alarm.Answer(t.Context(), f.records, room.MissingAlarm, "end", "jane"))
	require.Eventually(t, func() bool { return open() == 0 && state() == alarm.Closed }, 30*time.Second, 50*time.Millisecond)
	require.Equal(t, "gone_from_livekit", f.get(t, "orgs/acme/rooms/r0").GetEndReason())
}

// A room that somebody has left stays for its empty_timeout, too: LiveKit's own
// default would end it after 20 s.
func TestEmptyTimeoutAfterTheLastParticipant(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	made, err := f.CreateRoom(as(t.Context()), &roomv1.CreateRoomRequest{Parent: "orgs/acme",
		Room: &roomv1.Room{EmptyTimeout: durationpb.New(120 * time.Second)}})
	require.NoError(t, err)
	name := made.GetRoom().GetName()
	in, _ := f.enter(t, name, "jane")
	in.Disconnect()
	require.EqualValues(t, []uint32{120, 120}, []uint32{f.listed(t)[0].GetEmptyTimeout(), f.listed(t)[0].GetDepartureTimeout()})
	time.Sleep(24 * time.Second)
	require.Len(t, f.listed(t), 1)
	require.Equal(t, roomv1.Room_STATE_OPEN, f.get(t, name).GetState())
}
