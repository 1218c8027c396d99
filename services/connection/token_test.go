package connection_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	connectionv1 "github.com/openova-io/bp-relay/gen/relay/connection/v1"

	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
)

// until returns the context of a caller whose token expires then.
func until(t *testing.T, subject string, expires time.Time) context.Context {
	return auth.With(t.Context(), auth.Principal{Subject: subject, Org: "acme", Expires: expires})
}

// Keys reached a target 22 s after the token had expired. A session ends with
// its token, and one whose person shows a new token in time goes on.
func TestASessionEndsWithItsToken(t *testing.T) {
	r := newRig(t)
	p := r.start()
	conn := r.define(p, "shell")
	first := time.Now().Add(6 * time.Second)
	opened := func(subject string) (string, *desk) {
		o, err := p.OpenSession(until(t, subject, first), &connectionv1.OpenSessionRequest{Connection: conn})
		require.NoError(t, err)
		d := dial(t, p, o.GetTunnelPath(), "ticket="+o.GetTicket())
		d.wait("a frame", func() bool { return d.syncs > 0 })
		return o.GetSession().GetName(), d
	}
	forgotten, left := opened("ann")
	renewed, right := opened("ben")

	_, err := p.RenewSession(until(t, "eve", time.Now().Add(time.Hour)), &connectionv1.RenewSessionRequest{Name: forgotten})
	e := apierr.FromDomain(err)
	require.NotNil(t, e)
	require.Equal(t, codes.PermissionDenied, e.Code(), "nobody renews another's session")
	out, err := p.RenewSession(until(t, "ben", time.Now().Add(time.Hour)), &connectionv1.RenewSessionRequest{Name: renewed})
	require.NoError(t, err)
	require.Equal(t, connectionv1.Session_STATE_ACTIVE, out.GetSession().GetState())
	require.WithinDuration(t, time.Now().Add(time.Hour), out.GetSession().GetExpireTime().AsTime(), time.Minute)

	_, told := left.closed()
	require.Contains(t, told, "Your login has expired")
	over := r.session(p, forgotten, connectionv1.Session_STATE_ENDED)
	require.Equal(t, "expired", over.GetEndReason())
	require.WithinDuration(t, first, over.GetEndTime().AsTime(), 3*time.Second)

	right.enter("true")
	r.session(p, renewed, connectionv1.Session_STATE_ACTIVE)
	require.True(t, time.Now().After(first))
	require.Contains(t, r.leafTypes(renewed), "session.renewed")

	// Shortening counts, too: it is heard at once.
	_, err = p.RenewSession(until(t, "ben", time.Now().Add(time.Second)), &connectionv1.RenewSessionRequest{Name: renewed})
	require.NoError(t, err)
	_, told = right.closed()
	require.Contains(t, told, "Your login has expired")

	_, err = p.RenewSession(until(t, "eve", time.Now().Add(time.Hour)), &connectionv1.RenewSessionRequest{Name: forgotten})
	require.Equal(t, codes.PermissionDenied, apierr.FromDomain(err).Code(), "not even one that has ended")
}

// A ticket does not outlive the token with which it was got.
func TestATicketEndsWithItsToken(t *testing.T) {
	r := newRig(t)
	p := r.start()
	expires := time.Now().Add(time.Second)
	o, err := p.OpenSession(until(t, "ann", expires), &connectionv1.OpenSessionRequest{Connection: r.define(p, "shell")})
	require.NoError(t, err)
	time.Sleep(time.Until(expires))
	_, told := dial(t, p, o.GetTunnelPath(), "ticket="+o.GetTicket()).closed()
	require.NotEmpty(t, told)
	require.NotContains(t, r.leafTypes(o.GetSession().GetName()), "session.started")
}

// A tunnel's path of 900 kB became a limiter's key and a log line. What is no
// name is refused before anything happens with it.
func TestNoNameNoTunnel(t *testing.T) {
	r := newRig(t)
	p := r.start()
	mux := http.NewServeMux()
	p.Routes(mux)
	q := r.serve(t, p, mux)
	long := strings.Repeat("x", 900_000)
	for _, path := range []string{
		"/tunnel/orgs/acme/sessions/" + long, "/tunnel/orgs/" + long + "/sessions/a", "/tunnel/orgs/acme/sessions/" + strings.Repeat("x", 64),
		"/tunnel/orgs/ACME/sessions/a", "/tunnel/orgs/acme/sessions/a%0ab", "/tunnel/orgs/acme/sessions/%E2%80%AEa",
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.Replace(q.url, "ws", "http", 1)+path, nil)
		require.NoError(t, err)
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "websocket")
		resp, err := http.DefaultTransport.RoundTrip(req)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusNotFound, resp.StatusCode)
		require.Contains(t, string(body), "PATH_NOT_FOUND")
		require.Less(t, len(body), 1000)
	}
	require.NotContains(t, r.log.String(), "xxxx")
}
