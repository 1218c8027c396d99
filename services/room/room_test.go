package room_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	lkauth "github.com/livekit/protocol/auth"
	lksdk "github.com/livekit/server-sdk-go/v2"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/services/dev/stack"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/livekit"
	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/sqlite"
	"github.com/openova-io/bp-relay/services/room"
)

type fixture struct {
	*room.Service
	records records.DB
	livekit *stack.LiveKit
}

// newFixture starts a real LiveKit, and the service with LiveKit's webhooks.
func newFixture(t *testing.T) *fixture {
	t.Helper()
	return newFixtureOn(t, func(hook string) *stack.LiveKit { return stacktest.LiveKit(t, hook) })
}

// newFixtureOn is newFixture with a LiveKit that start starts with that webhook.
func newFixtureOn(t *testing.T, start func(hook string) *stack.LiveKit, edit ...func(*room.Config)) *fixture {
	t.Helper()
	st, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "records.db")})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, st.Close()) })
	mux := http.NewServeMux()
	hooks := httptest.NewServer(mux)
	t.Cleanup(hooks.Close)
	lk := start(hooks.URL + room.WebhookPath)
	cfg := room.Config{
		Records:   st,
		LiveKit:   client(t, livekit.Config{URL: lk.URL, PublicURL: lk.SignalURL, Key: lk.Key, Secret: lk.Secret}),
		Reconcile: 200 * time.Millisecond,
		Logger:    slog.New(slog.DiscardHandler),
	}
	for _, fn := range edit {
		fn(&cfg)
	}
	s, err := room.New(cfg)
	require.NoError(t, err)
	s.Routes(mux)
	return &fixture{Service: s, records: st, livekit: lk}
}

func client(t *testing.T, cfg livekit.Config) *livekit.Client {
	t.Helper()
	c, err := livekit.New(cfg)
	require.NoError(t, err)
	return c
}

func as(ctx context.Context) context.Context {
	return auth.With(ctx, auth.Principal{Subject: "jane", Org: "acme", Roles: []string{"relay-admin"}})
}

func reason(err error) string { return apierr.ReasonOf(apierr.FromDomain(err).GRPCStatus().Err()) }

func (f *fixture) events(t *testing.T) []string {
	t.Helper()
	_, err := f.records.Log().NumberEvents(t.Context(), 1, 1000)
	require.NoError(t, err)
	evs, err := f.records.Log().Events(t.Context(), "acme", 0, 1000)
	require.NoError(t, err)
	var out []string
	for _, e := range evs {
		out = append(out, e.Type)
	}
	return out
}

func TestRoomLivesAndEnds(t *testing.T) {
	f := newFixture(t)
	ctx := as(t.Context())
	id := uuid.NewString()
	req := &roomv1.CreateRoomRequest{
		Parent: "orgs/acme", RoomId: "standup", RequestId: id,
		Room: &roomv1.Room{DisplayName: "Stand-up", Metadata: "m", EmptyTimeout: durationpb.New(time.Minute)},
	}
	made, err := f.CreateRoom(ctx, req)
	require.NoError(t, err)
	require.Equal(t, "orgs/acme/rooms/standup", made.GetRoom().GetName())
	require.Equal(t, roomv1.Room_STATE_OPEN, made.GetRoom().GetState())

	again, err := f.CreateRoom(ctx, req)
	require.NoError(t, err)
	require.Equal(t, made.GetRoom().GetUid(), again.GetRoom().GetUid(), "the same request_id gets the first answer")
	req.Room.DisplayName = "other"
	_, err = f.CreateRoom(ctx, req)
	require.Equal(t, "REQUEST_ID_REUSED", reason(err))
	req.RequestId = uuid.NewString()
	_, err = f.CreateRoom(ctx, req)
	require.Equal(t, "ROOM_EXISTS", reason(err))

	got, err := f.GetRoom(ctx, &roomv1.GetRoomRequest{Name: made.GetRoom().GetName()})
	require.NoError(t, err)
	require.Equal(t, "Stand-up", got.GetRoom().GetDisplayName())
	_, err = f.GetRoom(ctx, &roomv1.GetRoomRequest{Name: "orgs/acme/rooms/none"})
	require.Equal(t, "ROOM_NOT_FOUND", reason(err))

	_, err = f.DeleteRoom(ctx, &roomv1.DeleteRoomRequest{Name: made.GetRoom().GetName(), Etag: "999"})
	require.Equal(t, "ETAG_MISMATCH", reason(err))
	for range 2 {
		_, err = f.DeleteRoom(ctx, &roomv1.DeleteRoomRequest{Name: made.GetRoom().GetName()})
		require.NoError(t, err)
	}
	_, err = f.JoinRoom(ctx, &roomv1.JoinRoomRequest{Name: made.GetRoom().GetName(), Identity: "jane"})
	require.Equal(t, codes.FailedPrecondition, apierr.FromDomain(err).Code())

	reopened, err := f.CreateRoom(ctx, &roomv1.CreateRoomRequest{Parent: "orgs/acme", RoomId: "standup"})
	require.NoError(t, err, "the name of an ended room may be used again")
	require.NotEqual(t, made.GetRoom().GetUid(), reopened.GetRoom().GetUid())
	// LiveKit's room_finished may come before DeleteRoom writes: then that ends the
	// room, and DeleteRoom removes it.
	lives := slices.DeleteFunc(f.events(t), func(kind string) bool { return kind == "room.removed" })
	require.Equal(t, []string{"room.created", "room.ended", "room.created"}, lives[:3])
	ended, err := f.records.Log().Events(ctx, "acme", 0, 1000)
	require.NoError(t, err)
	last := ""
	for _, e := range ended {
		if e.Type == "room.ended" || e.Type == "room.removed" {
			last = string(e.Body)
		}
	}
	require.Contains(t, last, `"reason":"deleted"`, "whoever was first")
}

// longest is an identity of 256 bytes, LiveKit's limit: 85 characters of 3 bytes
// and one of 1.
var longest = strings.Repeat("漢", 85) + "x"

func TestParticipantJoinsWithTheAnswer(t *testing.T) {
	f := newFixture(t)
	ctx := as(t.Context())
	made, err := f.CreateRoom(ctx, &roomv1.CreateRoomRequest{Parent: "orgs/acme"})
	require.NoError(t, err)
	name := made.GetRoom().GetName()

	_, err = f.JoinRoom(ctx, &roomv1.JoinRoomRequest{Name: name, Identity: "jane", RelayOnly: true})
	require.Equal(t, "GATEWAY_UNHEALTHY", reason(err), "relay_only without a gateway is an error, not an empty list")
	_, err = f.JoinRoom(ctx, &roomv1.JoinRoomRequest{Name: name, Identity: "recorder-1"})
	require.Equal(t, "FIELD_INVALID", reason(err), "no participant can disconnect a recorder")
	for _, alike := range []string{"Recorder-1", "rec\u043erder-1", "recorder\u20101"} {
		_, err = f.JoinRoom(ctx, &roomv1.JoinRoomRequest{Name: name, Identity: alike})
		require.ErrorContains(t, err, "identity: ", alike)
		_, err = f.JoinRoom(ctx, &roomv1.JoinRoomRequest{Name: name, Identity: "jane", DisplayName: alike})
		require.ErrorContains(t, err, "display_name: ", "nor look like one")
	}
	join, err := f.JoinRoom(ctx, &roomv1.JoinRoomRequest{Name: name, Identity: "jane", Grants: &roomv1.Grants{Subscribe: true}})
	require.NoError(t, err)
	require.Equal(t, "all", join.GetIceTransportPolicy())

	client, err := lksdk.ConnectToRoomWithToken(join.GetUrl(), join.GetToken(), &lksdk.RoomCallback{})
	require.NoError(t, err)
	require.Equal(t, name, client.Name())
	require.Equal(t, "jane", client.LocalParticipant.Identity())
	second, err := f.JoinRoom(ctx, &roomv1.JoinRoomRequest{Name: name, Identity: longest, DisplayName: longest})
	require.NoError(t, err)
	other, err := lksdk.ConnectToRoomWithToken(second.GetUrl(), second.GetToken(), &lksdk.RoomCallback{})
	require.NoError(t, err, "LiveKit takes the longest identity that a request may have")
	asked := time.Now()
	got, err := f.GetRoom(ctx, &roomv1.GetRoomRequest{Name: name})
	require.NoError(t, err)
	require.EqualValues(t, 2, got.GetRoom().GetParticipantCount(), "two are in, at once")
	require.WithinDuration(t, asked, got.GetRoom().GetParticipantCountTime().AsTime(), time.Minute, "and the answer says as of when")
	other.Disconnect()
	require.False(t, client.LocalParticipant.Permissions().GetCanPublish(), "only what was granted")
	require.True(t, client.LocalParticipant.Permissions().GetCanSubscribe())
	require.Eventually(t, func() bool {
		got, err := f.GetRoom(ctx, &roomv1.GetRoomRequest{Name: name})
		return err == nil && got.GetRoom().GetParticipantCount() == 1
	}, 10*time.Second, 50*time.Millisecond)
	client.Disconnect()
	require.Eventually(t, func() bool {
		all := strings.Join(f.events(t), " ")
		return strings.Contains(all, "participant.joined") && strings.Contains(all, "participant.left")
	}, 20*time.Second, 100*time.Millisecond, "LiveKit's webhooks become events")
}

func TestReconcilerEndsRoomsThatLiveKitLost(t *testing.T) {
	f := newFixture(t)
	ctx := as(t.Context())
	made, err := f.CreateRoom(ctx, &roomv1.CreateRoomRequest{Parent: "orgs/acme"})
	require.NoError(t, err)
	require.NoError(t, f.livekit.Process.Kill())
	require.NoError(t, f.livekit.Process.Restart(ctx), "a killed node loses its rooms and sends no webhook")

	run, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- f.Run(run) }()
	require.Eventually(t, func() bool {
		got, err := f.GetRoom(ctx, &roomv1.GetRoomRequest{Name: made.GetRoom().GetName()})
		return err == nil && got.GetRoom().GetState() == roomv1.Room_STATE_ENDED
	}, 30*time.Second, 200*time.Millisecond)
	stop()
	require.NoError(t, <-done)
}

func TestWebhookMustBeSigned(t *testing.T) {
	f := newFixture(t)
	mux := http.NewServeMux()
	f.Routes(mux)
	body := `{"event":"room_finished","id":"EV_1","room":{"name":"orgs/acme/rooms/r"}}`
	post := func(authorization string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, room.WebhookPath, strings.NewReader(body))
		r.Header.Set("Authorization", authorization)
		mux.ServeHTTP(w, r)
		return w
	}
	sign := func(secret, content string) string {
		sum := sha256.Sum256([]byte(content))
		token, err := lkauth.NewAccessToken(f.livekit.Key, secret).SetValidFor(time.Minute).
			SetSha256(base64.StdEncoding.EncodeToString(sum[:])).ToJWT()
		require.NoError(t, err)
		return token
	}
	for name, authorization := range map[string]string{
		"none":       "",
		"garbage":    "x.y.z",
		"other key":  sign(strings.Repeat("wrong", 10), body),
		"other body": sign(f.livekit.Secret, body+" "),
	} {
		w := post(authorization)
		require.Equal(t, http.StatusUnauthorized, w.Code, name)
		require.Contains(t, w.Body.String(), "WEBHOOK_SIGNATURE", name)
	}
	require.Equal(t, http.StatusOK, post(sign(f.livekit.Secret, body)).Code)
}

func TestListPages(t *testing.T) {
	f := newFixture(t)
	ctx := as(t.Context())
	for i := range 7 {
		_, err := f.CreateRoom(ctx, &roomv1.CreateRoomRequest{Parent: "orgs/acme", RoomId: fmt.Sprintf("r%d", i)})
		require.NoError(t, err)
	}
	var names []string
	req := &roomv1.ListRoomsRequest{Parent: "orgs/acme", PageSize: 3}
	for {
		page, err := f.ListRooms(ctx, req)
		require.NoError(t, err)
		require.LessOrEqual(t, len(page.GetRooms()), 3)
		for _, r := range page.GetRooms() {
			names = append(names, r.GetName())
		}
		if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
			break
		}
	}
	require.Len(t, names, 7)
	require.IsIncreasing(t, names)
	_, err := f.ListRooms(ctx, &roomv1.ListRoomsRequest{Parent: "orgs/acme", PageToken: "bogus"})
	require.Equal(t, "PAGE_TOKEN_INVALID", reason(err))
	other, err := f.ListRooms(auth.With(t.Context(), auth.Principal{Subject: "x", Org: "other"}), &roomv1.ListRoomsRequest{Parent: "orgs/other"})
	require.NoError(t, err)
	require.Empty(t, other.GetRooms(), "another organisation sees nothing")
}
