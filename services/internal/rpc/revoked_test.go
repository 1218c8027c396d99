package rpc_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	eventv1 "github.com/openova-io/bp-relay/gen/relay/event/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/services/bus/inproc"
	"github.com/openova-io/bp-relay/services/dev/issuer"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/revocation"
	"github.com/openova-io/bp-relay/services/internal/rpc"
	"github.com/openova-io/bp-relay/services/records/sqlite"
)

// revocations returns a set of its own.
func revocations(t *testing.T) *revocation.Set {
	t.Helper()
	db, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "records.db")})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	live := inproc.New()
	t.Cleanup(func() { require.NoError(t, live.Close()) })
	set, err := revocation.New(t.Context(), db, live, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return set
}

// A revoked token is refused with a reason of its own and counted as a denial,
// and the streams that were opened with it end within 1 s, also one whose client
// reads nothing. Others go on.
func TestRevokedTokens(t *testing.T) {
	for name, w := range map[string]*watcher{"waits": {}, "client reads nothing": {send: true}} {
		t.Run(name, func(t *testing.T) {
			set := revocations(t)
			ended := make(chan time.Time, 2)
			b := newBenchOf(t, rpc.Limits{}, &noted{w, ended}, func(c *rpc.Config) { c.Revocations = set })
			as := func(subject, id, login string) context.Context {
				token, err := b.issuer.Token(issuer.Claims{Subject: subject, Org: "acme", Roles: []string{"relay-admin"}, Audience: audience,
					TTL: time.Hour, ID: id, Login: login})
				require.NoError(t, err)
				return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
			}
			ask := func(ctx context.Context) error {
				_, err := roomv1.NewRoomServiceClient(b.conn).GetRoom(ctx, &roomv1.GetRoomRequest{Name: "orgs/acme/rooms/r"})
				return err
			}
			stream, err := eventv1.NewEventServiceClient(b.conn).WatchEvents(as("ann", "1", "desk"), &eventv1.WatchEventsRequest{Parent: "orgs/acme"})
			require.NoError(t, err)
			require.Equal(t, codes.Unimplemented, status.Code(ask(as("ann", "1", "desk"))))

			began := time.Now()
			set.Tell(t.Context(), "orgs/acme/revocations/"+uuid.NewString(), revocation.Revocation{Login: "desk"})
			require.Less(t, (<-ended).Sub(began), time.Second)
			for err == nil {
				_, err = stream.Recv()
			}
			if w.send { // grpc-go answers by itself when a Send is cancelled
				require.Equal(t, codes.Canceled, status.Code(err), err)
			} else {
				require.Equal(t, "TOKEN_REVOKED", apierr.ReasonOf(err))
			}
			err = ask(as("ann", "2", "desk"))
			require.Equal(t, codes.Unauthenticated, status.Code(err))
			require.Equal(t, "TOKEN_REVOKED", apierr.ReasonOf(err))
			require.Equal(t, []string{"ann /relay.room.v1.RoomService/GetRoom"}, b.denied)
			stream, err = eventv1.NewEventServiceClient(b.conn).WatchEvents(as("ann", "3", "desk"), &eventv1.WatchEventsRequest{Parent: "orgs/acme"})
			require.NoError(t, err)
			_, err = stream.Recv()
			require.Equal(t, "TOKEN_REVOKED", apierr.ReasonOf(err))

			require.Equal(t, codes.Unimplemented, status.Code(ask(as("ann", "4", "phone"))), "another login of hers")
			require.Equal(t, codes.Unimplemented, status.Code(ask(as("ben", "desk", ""))), "an id is not a login")
		})
	}
}

// Whoever proves something besides a call, as a tunnel's request does, is judged
// as on a call.
func TestIdentify(t *testing.T) {
	set := revocations(t)
	b := newBenchOf(t, rpc.Limits{}, nil, func(c *rpc.Config) { c.Revocations = set })
	token := func(subject string, ttl time.Duration) string {
		token, err := b.issuer.Token(issuer.Claims{Subject: subject, Org: "acme", Audience: audience, TTL: ttl})
		require.NoError(t, err)
		return "Bearer " + token
	}
	set.Tell(t.Context(), "orgs/acme/revocations/a", revocation.Revocation{Subject: "ben"})
	who, refusal := b.gate.Identify(t.Context(), []string{token("ann", time.Hour)})
	require.Nil(t, refusal)
	require.Equal(t, "ann acme", who.Subject+" "+who.Org)
	for reason, proof := range map[string][]string{
		"TOKEN_REVOKED": {token("ben", time.Hour)},
		"TOKEN_EXPIRED": {token("ann", -time.Hour)},
		"TOKEN_INVALID": {token("ann", time.Hour), token("eve", time.Hour)},
		"TOKEN_MISSING": nil,
	} {
		_, refusal := b.gate.Identify(t.Context(), proof)
		require.NotNil(t, refusal, reason)
		require.Equal(t, reason, apierr.ReasonName(refusal.Reason()))
	}
}
