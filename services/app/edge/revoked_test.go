package edge_test

import (
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/app/edge"
	"github.com/openova-io/bp-relay/services/bus/inproc"
	"github.com/openova-io/bp-relay/services/internal/revocation"
	"github.com/openova-io/bp-relay/services/records/sqlite"
)

// A stream over HTTP ends within 1 s after its token was revoked, whether its
// client reads or not; who reads is told why. The next call is refused.
func TestHTTPStreamsEndWithTheirRevokedToken(t *testing.T) {
	for name, flood := range map[string]bool{"waits": false, "client reads nothing": true} {
		t.Run(name, func(t *testing.T) {
			db, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "records.db")})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, db.Close()) })
			live := inproc.New()
			t.Cleanup(func() { require.NoError(t, live.Close()) })
			set, err := revocation.New(t.Context(), db, live, slog.New(slog.DiscardHandler))
			require.NoError(t, err)
			d := newDoorOf(t, edge.Config{}, set, flood)
			message := append([]byte{0, 0, 0, 0, 11}, "\x0a\x09orgs/acme"...)
			resp, _ := d.post("/relay.event.v1.EventService/WatchEvents", "application/connect+proto", d.token(time.Hour), message, "Content-Length: 16")
			<-d.began
			if flood {
				time.Sleep(time.Second) // until nothing more fits anywhere
			}
			began := time.Now()
			set.Tell(t.Context(), "orgs/acme/revocations/a", revocation.Revocation{Subject: "ann"})
			require.Less(t, (<-d.ended).Sub(began), time.Second)
			if !flood {
				body, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				require.Contains(t, string(body), "TOKEN_REVOKED")
			}
			resp, _ = d.post("/v1/orgs/acme/rooms", "application/json", d.token(time.Hour), nil, "Content-Length: 1000000")
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, http.StatusUnauthorized, resp.StatusCode)
			require.Contains(t, string(body), "TOKEN_REVOKED")
		})
	}
}
