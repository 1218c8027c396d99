package livekit_test

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	lkauth "github.com/livekit/protocol/auth"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/livekit"
)

func TestWebhookSignature(t *testing.T) {
	secret := strings.Repeat("s", 32)
	c := client(t, livekit.Config{URL: "http://127.0.0.1:1", Key: "k", Secret: secret})
	sign := func(key, secret, content string, ttl time.Duration) string {
		sum := sha256.Sum256([]byte(content))
		token, err := lkauth.NewAccessToken(key, secret).SetValidFor(ttl).SetSha256(base64.StdEncoding.EncodeToString(sum[:])).ToJWT()
		require.NoError(t, err)
		return token
	}
	read := func(authorization, body string) (livekit.WebhookEvent, error) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
		r.Header.Set("Authorization", authorization)
		return c.ReadWebhook(httptest.NewRecorder(), r)
	}
	const body = `{"event":"track_published","id":"EV_1","createdAt":"1700000000","room":{"name":"orgs/acme/rooms/r","creationTime":"1690000000"},` +
		`"participant":{"identity":"ann","sid":"PA_1"},"track":{"sid":"TR_1","type":"VIDEO","source":"CAMERA","width":640},"unknown":1}`
	large := `{"event":"` + strings.Repeat("x", 1<<20) + `"}`
	for name, refused := range map[string]struct{ authorization, body string }{
		"unsigned":     {"", body},
		"garbage":      {"x.y.z", body},
		"other secret": {sign("k", strings.Repeat("wrong", 10), body, time.Minute), body},
		"other key":    {sign("other", secret, body, time.Minute), body},
		"other body":   {sign("k", secret, body+" ", time.Minute), body},
		"not JSON":     {sign("k", secret, "{", time.Minute), "{"},
		"too large":    {sign("k", secret, large, time.Minute), large},
	} {
		_, err := read(refused.authorization, refused.body)
		require.ErrorIs(t, err, livekit.ErrSignature, name)
	}
	ev, err := read(sign("k", secret, body, time.Minute), body)
	require.NoError(t, err)
	require.Equal(t, livekit.WebhookEvent{
		ID: "EV_1", Type: livekit.TrackPublished, Time: time.Unix(1700000000, 0),
		Room:        livekit.Room{Name: "orgs/acme/rooms/r", CreateTime: time.Unix(1690000000, 0)},
		Participant: livekit.Participant{Identity: "ann", SID: "PA_1", DisconnectReason: "UNKNOWN_REASON"},
		Track:       livekit.Track{SID: "TR_1", Kind: "VIDEO", Source: "CAMERA", Encryption: "NONE", Width: 640},
	}, ev)
}
