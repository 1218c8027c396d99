package connection_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	connectionv1 "github.com/openova-io/bp-relay/gen/relay/connection/v1"

	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/connection"
	"github.com/openova-io/bp-relay/services/connection/guac"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/revocation"
)

// login is the context of a caller with a token of that login.
func login(t *testing.T, subject, id string) context.Context {
	return auth.With(t.Context(), auth.Principal{Subject: subject, Org: "acme", Expires: time.Now().Add(time.Hour), Login: id, Issued: time.Now()})
}

// A shell ends within 1 s after the token was revoked with which it was opened
// or renewed, with words that say why, and its recording is sealed whole. A
// ticket that was got before opens nothing. Other people's shells go on.
func TestASessionEndsWithItsRevokedToken(t *testing.T) {
	r := newRig(t)
	set, err := revocation.New(t.Context(), r.records, r.bus, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	p := r.start(func(c *connection.Config, _ *capture.Config) { c.Revocations = set })
	conn := r.define(p, "shell")
	opened := func(ctx context.Context) *connectionv1.OpenSessionResponse {
		o, err := p.OpenSession(ctx, &connectionv1.OpenSessionRequest{Connection: conn})
		require.NoError(t, err)
		return o
	}
	started := func(o *connectionv1.OpenSessionResponse) *desk {
		d := dial(t, p, o.GetTunnelPath(), "ticket="+o.GetTicket())
		d.wait("a frame", func() bool { return d.syncs > 0 })
		return d
	}
	revoke := func(what revocation.Revocation) {
		set.Tell(t.Context(), "orgs/acme/revocations/"+uuid.NewString(), what)
	}
	mine, renewed, others := opened(login(t, "ann", "desk")), opened(login(t, "ann", "old")), opened(login(t, "ben", "desk2"))
	waiting := opened(login(t, "ann", "desk"))
	shell, second, third := started(mine), started(renewed), started(others)
	_, err = p.RenewSession(login(t, "ann", "new"), &connectionv1.RenewSessionRequest{Name: renewed.GetSession().GetName()})
	require.NoError(t, err)

	began := time.Now()
	revoke(revocation.Revocation{Login: "desk"})
	status, told := shell.closed()
	require.Less(t, time.Since(began), time.Second)
	require.Equal(t, guac.ClientForbidden, status)
	require.Contains(t, told, "revoked by an administrator")
	over := r.session(p, mine.GetSession().GetName(), connectionv1.Session_STATE_ENDED)
	require.Equal(t, "revoked", over.GetEndReason())
	require.NotEmpty(t, over.GetManifestSha256())
	require.Equal(t, shell.bytes(), recorded(t, p, over.GetCapture(), "output"), "byte for byte")

	status, told = dial(t, p, waiting.GetTunnelPath(), "ticket="+waiting.GetTicket()).closed()
	require.Equal(t, guac.ClientForbidden, status)
	require.Contains(t, told, "revoked by an administrator")
	require.Contains(t, r.leafTypes(waiting.GetSession().GetName()), "access.denied")
	require.NotContains(t, r.leafTypes(waiting.GetSession().GetName()), "session.started")

	revoke(revocation.Revocation{Login: "old"})
	time.Sleep(500 * time.Millisecond)
	second.enter("true")
	r.session(p, renewed.GetSession().GetName(), connectionv1.Session_STATE_ACTIVE)
	revoke(revocation.Revocation{Login: "new"})
	_, told = second.closed()
	require.Contains(t, told, "revoked by an administrator")

	third.enter("true")
	r.session(p, others.GetSession().GetName(), connectionv1.Session_STATE_ACTIVE)
	revoke(revocation.Revocation{Subject: "ben"})
	_, told = third.closed()
	require.Contains(t, told, "revoked by an administrator")
}
