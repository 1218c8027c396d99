package livekit_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	lk "github.com/livekit/protocol/livekit"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/dev/stack"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
	"github.com/openova-io/bp-relay/services/dev/testmedia"
	"github.com/openova-io/bp-relay/services/livekit"
	"github.com/openova-io/bp-relay/services/livekit/signal"
)

const hookPath = "/hook"

func client(t *testing.T, cfg livekit.Config) *livekit.Client {
	t.Helper()
	c, err := livekit.New(cfg)
	require.NoError(t, err)
	return c
}

func of(server *stack.LiveKit) livekit.Config {
	return livekit.Config{URL: server.URL, PublicURL: server.SignalURL, Key: server.Key, Secret: server.Secret}
}

// join enters the room over LiveKit's signalling.
func join(t *testing.T, c *livekit.Client, token livekit.Token) *lk.JoinResponse {
	t.Helper()
	token.Issued, token.TTL = time.Now(), time.Minute
	text, err := c.Mint(token)
	require.NoError(t, err)
	conn, answer, err := signal.Dial(t.Context(), c.PublicURL(), text, false)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return answer
}

// publish sends a real video track until the test ends.
func publish(t *testing.T, c *livekit.Client, token livekit.Token) {
	t.Helper()
	cache, err := os.UserCacheDir()
	require.NoError(t, err)
	clip, err := testmedia.Make(t.Context(), filepath.Join(cache, "bp-relay", "media"), testmedia.Spec{Width: 320, Height: 180, Bitrate: 250, Length: 4 * time.Second})
	require.NoError(t, err)
	token.Issued, token.TTL = time.Now(), time.Minute
	text, err := c.Mint(token)
	require.NoError(t, err)
	p, err := testmedia.Publish(t.Context(), testmedia.PublishConfig{URL: c.PublicURL(), Token: text, Clip: clip, NoAudio: true})
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Close() })
}

func TestConfig(t *testing.T) {
	good := livekit.Config{URL: "http://127.0.0.1:1", Key: "k", Secret: strings.Repeat("s", 32)}
	for name, change := range map[string]func(*livekit.Config){
		"no URL":       func(c *livekit.Config) { c.URL = "" },
		"no key":       func(c *livekit.Config) { c.Key = "" },
		"short secret": func(c *livekit.Config) { c.Secret = strings.Repeat("s", 31) },
	} {
		bad := good
		change(&bad)
		_, err := livekit.New(bad)
		require.Error(t, err, name)
	}
	c := client(t, good)
	require.Equal(t, c.URL(), c.PublicURL())
}

func TestLiveKit(t *testing.T) {
	events := make(chan livekit.WebhookEvent, 100)
	mux := http.NewServeMux()
	web := httptest.NewServer(mux)
	t.Cleanup(web.Close)
	server := stacktest.LiveKit(t, web.URL+hookPath)
	c := client(t, of(server))
	mux.HandleFunc("POST "+hookPath, func(w http.ResponseWriter, r *http.Request) {
		ev, err := c.ReadWebhook(w, r)
		if err != nil {
			t.Errorf("LiveKit's own webhook is refused: %v", err)
		}
		events <- ev
	})
	t.Run("Rooms", func(t *testing.T) { testRooms(t, c) })
	t.Run("Participants", func(t *testing.T) { testParticipants(t, c) })
	t.Run("Refused", func(t *testing.T) { testRefused(t, of(server)) })
	testEvents(t, events)
}

func testRooms(t *testing.T, c *livekit.Client) {
	ctx := t.Context()
	spec := livekit.RoomSpec{Name: "orgs/acme/rooms/" + uuid.NewString(), EmptyTimeout: time.Minute, MaxParticipants: -1, Metadata: "m"}
	lives, err := c.Lives(ctx, spec.Name)
	require.NoError(t, err)
	require.False(t, lives, "no node runs a room that was never made")
	made, err := c.CreateRoom(ctx, spec)
	require.NoError(t, err)
	again, err := c.CreateRoom(ctx, spec)
	require.NoError(t, err)
	require.Equal(t, made, again, "creating it again changes nothing")
	require.NotEmpty(t, made.SID)
	lives, err = c.Lives(ctx, spec.Name)
	require.NoError(t, err)
	require.True(t, lives)
	list, err := c.ListRooms(ctx, spec.Name, "orgs/acme/rooms/none")
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, spec.Name, list[0].Name)
	require.Zero(t, list[0].Participants)
	require.WithinDuration(t, time.Now(), list[0].CreateTime, 10*time.Second)
	all, err := c.ListRooms(ctx)
	require.NoError(t, err)
	require.NotEmpty(t, all)
	require.NoError(t, c.DeleteRoom(ctx, spec.Name))
	list, err = c.ListRooms(ctx, spec.Name)
	require.NoError(t, err)
	require.Empty(t, list)
}

func testParticipants(t *testing.T, c *livekit.Client) {
	room := "orgs/acme/rooms/" + uuid.NewString()
	_, err := c.CreateRoom(t.Context(), livekit.RoomSpec{Name: room, EmptyTimeout: time.Minute})
	require.NoError(t, err)
	ann := join(t, c, livekit.Token{ID: "jti-1", Identity: "ann", Name: "Ann", Metadata: "m", Room: room, Grants: livekit.Grants{Publish: true}})
	require.Equal(t, room, ann.GetRoom().GetName())
	require.Equal(t, "Ann", ann.GetParticipant().GetName())
	require.Equal(t, "m", ann.GetParticipant().GetMetadata())
	allowed := ann.GetParticipant().GetPermission()
	require.True(t, allowed.GetCanPublish())
	require.False(t, allowed.GetCanSubscribe(), "only what was granted")
	require.False(t, allowed.GetCanPublishData())
	require.False(t, allowed.GetHidden())

	recorder := livekit.RecorderIdentity(path.Base(room))
	rec := join(t, c, livekit.Token{Identity: recorder, Room: room, Grants: livekit.Grants{Subscribe: true, Recorder: true}})
	require.Equal(t, lk.ParticipantInfo_EGRESS, rec.GetParticipant().GetKind())
	allowed = rec.GetParticipant().GetPermission()
	require.True(t, allowed.GetHidden())
	require.True(t, allowed.GetCanSubscribe())
	require.False(t, allowed.GetCanPublish())
	require.True(t, livekit.IsRecorder(recorder))
	require.False(t, livekit.IsRecorder("ann"))

	publish(t, c, livekit.Token{Identity: "bob", Room: room, Grants: livekit.Grants{Publish: true}})
	var list []livekit.Participant
	require.Eventually(t, func() bool {
		var err error
		list, err = c.ListParticipants(t.Context(), room)
		return err == nil && slices.ContainsFunc(list, func(p livekit.Participant) bool { return len(p.Tracks) == 1 })
	}, 10*time.Second, 50*time.Millisecond)
	hidden := map[string]bool{}
	for _, p := range list {
		require.NotEmpty(t, p.SID)
		hidden[p.Identity] = p.Hidden
		for _, track := range p.Tracks {
			require.Equal(t, "bob", p.Identity)
			require.NotEmpty(t, track.SID)
			require.Equal(t, []string{"VIDEO", "video/VP8", "NONE"}, []string{track.Kind, track.MimeType, track.Encryption})
			require.Equal(t, 320, track.Width)
			require.False(t, track.Muted)
		}
	}
	require.Equal(t, map[string]bool{"ann": false, "bob": false, recorder: true}, hidden)
	require.NoError(t, c.DeleteRoom(t.Context(), room))
}

// testRefused uses a wrong secret, an expired token, and a port where nothing
// listens.
func testRefused(t *testing.T, cfg livekit.Config) {
	wrong := cfg
	wrong.Secret = strings.Repeat("wrong", 10)
	_, err := client(t, wrong).CreateRoom(t.Context(), livekit.RoomSpec{Name: "r"})
	require.ErrorIs(t, err, livekit.ErrRefused)

	away := cfg
	away.URL = "http://127.0.0.1:9"
	c := client(t, away)
	_, err = c.ListRooms(t.Context())
	require.ErrorIs(t, err, livekit.ErrUnavailable)
	_, err = c.ListParticipants(t.Context(), "r")
	require.ErrorIs(t, err, livekit.ErrUnavailable)

	ws := cfg
	ws.URL = cfg.PublicURL
	_, err = client(t, ws).ListRooms(t.Context())
	require.NoError(t, err, "the API has the same address with ws://")

	late, err := c.Mint(livekit.Token{Identity: "ann", Room: "r", Issued: time.Now().Add(-time.Hour), TTL: time.Minute})
	require.NoError(t, err)
	_, _, err = signal.Dial(t.Context(), cfg.PublicURL, late, false)
	var refused *signal.RefusedError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, http.StatusUnauthorized, refused.Status)
}

// testEvents reads the webhooks that the tests before have caused.
func testEvents(t *testing.T, events <-chan livekit.WebhookEvent) {
	seen := map[livekit.EventType]bool{}
	for !seen[livekit.ParticipantJoined] || !seen[livekit.TrackPublished] || !seen[livekit.RoomFinished] {
		select {
		case ev := <-events:
			require.NotEmpty(t, ev.ID)
			require.WithinDuration(t, time.Now(), ev.Time, time.Minute)
			require.NotEmpty(t, ev.Room.Name)
			seen[ev.Type] = true
			switch ev.Type {
			case livekit.ParticipantJoined:
				require.Equal(t, "bob", ev.Participant.Identity)
				require.False(t, ev.Participant.Hidden)
			case livekit.TrackPublished:
				require.Equal(t, "VIDEO", ev.Track.Kind)
			}
		case <-time.After(20 * time.Second):
			require.FailNow(t, "webhooks are missing", "%v", seen)
		}
	}
}

func TestNotFound(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"code":"not_found","msg":"could not find object"}`))
	}))
	t.Cleanup(web.Close)
	c := client(t, livekit.Config{URL: web.URL, Key: "k", Secret: strings.Repeat("s", 32)})
	require.ErrorIs(t, c.DeleteRoom(t.Context(), "r"), livekit.ErrNotFound)
}
