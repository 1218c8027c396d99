package connection_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	connectionv1 "github.com/openova-io/bp-relay/gen/relay/connection/v1"
	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"

	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/connection"
	"github.com/openova-io/bp-relay/services/connection/guac"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
)

func TestTickets(t *testing.T) {
	r := newRig(t)
	p := r.start()
	conn := r.define(p, "shell")

	t.Run("in the subprotocol, so that no log has it", func(t *testing.T) {
		o := r.open(p, conn, "ann")
		d := dial(t, p, o.GetTunnelPath(), "", "ticket."+o.GetTicket())
		d.wait("a frame", func() bool { return d.syncs > 0 })
	})
	t.Run("used", func(t *testing.T) {
		o := r.open(p, conn, "ann")
		first := dial(t, p, o.GetTunnelPath(), "ticket="+o.GetTicket())
		first.wait("a frame", func() bool { return first.syncs > 0 })
		status, told := dial(t, p, o.GetTunnelPath(), "ticket="+o.GetTicket()).closed()
		require.Equal(t, guac.ClientUnauthorized, status)
		require.Contains(t, told, "TICKET_INVALID: ")
		require.Contains(t, told, "Open the session again")
		require.Contains(t, r.leafTypes(o.GetSession().GetName()), "access.denied")
		first.enter("true") // the first tunnel does not mind
		r.session(p, o.GetSession().GetName(), connectionv1.Session_STATE_ACTIVE)
	})
	t.Run("of another session", func(t *testing.T) {
		mine, other := r.open(p, conn, "ann"), r.open(p, conn, "ben")
		status, told := dial(t, p, other.GetTunnelPath(), "ticket="+mine.GetTicket()).closed()
		require.Equal(t, guac.ClientForbidden, status)
		require.Contains(t, told, "TICKET_INVALID: ")
		require.Contains(t, r.leafTypes(mine.GetSession().GetName()), "access.denied")
		status, _ = dial(t, p, mine.GetTunnelPath(), "ticket="+mine.GetTicket()).closed()
		require.Equal(t, guac.ClientUnauthorized, status, "a try uses it up")
	})
	t.Run("of another subject, where the mux knows who asks", func(t *testing.T) {
		o := r.open(p, conn, "ann")
		mux := http.NewServeMux()
		p.Routes(mux)
		q := r.serve(t, p, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			mux.ServeHTTP(w, req.WithContext(auth.With(req.Context(), auth.Principal{Subject: "eve", Org: "acme"})))
		}))
		status, _ := dial(t, q, o.GetTunnelPath(), "ticket="+o.GetTicket()).closed()
		require.Equal(t, guac.ClientForbidden, status)
	})
	t.Run("with a proof of who opens it", func(t *testing.T) {
		known := map[string]auth.Principal{"ann's": {Subject: "ann", Org: "acme"}, "eve's": {Subject: "eve", Org: "acme"}, "other": {Subject: "ann", Org: "other"}}
		q := r.start(func(c *connection.Config, cc *capture.Config) {
			cc.Dir = t.TempDir()
			c.Identify = func(_ context.Context, proof []string) (auth.Principal, *apierr.Error) {
				require.Len(t, proof, 1)
				_, token, _ := strings.Cut(proof[0], " ")
				who, ok := known[token]
				if !ok {
					return who, apierr.New(codes.Unauthenticated, errorsv1.Reason_REASON_TOKEN_EXPIRED, "it has expired")
				}
				return who, nil
			}
		})
		from := func(o *connectionv1.OpenSessionResponse, header string, protocols ...string) *desk {
			return dialWith(t, q, o.GetTunnelPath(), "ticket="+o.GetTicket(), http.Header{"Authorization": {header}}, protocols...)
		}
		for _, foreign := range []string{"Bearer eve's", "bearer eve's", "Bearer other"} {
			o := r.open(p, conn, "ann")
			status, told := from(o, foreign).closed()
			require.Equal(t, guac.ClientForbidden, status, foreign)
			require.Contains(t, told, "to another person")
			require.Contains(t, r.leafTypes(o.GetSession().GetName()), "access.denied")
		}
		o := r.open(p, conn, "ann")
		status, told := from(o, "Bearer nobody's").closed()
		require.Equal(t, guac.ClientUnauthorized, status)
		require.Contains(t, told, "TOKEN_EXPIRED: ")
		d := from(o, "Bearer ann's") // that did not use it up
		d.wait("a frame", func() bool { return d.syncs > 0 })
		d = from(r.open(p, conn, "ann"), "Basic of-a-proxy")
		d.wait("a frame", func() bool { return d.syncs > 0 })
		o = r.open(p, conn, "ann")
		status, _ = dial(t, q, o.GetTunnelPath(), "ticket="+o.GetTicket(), "bearer.other").closed()
		require.Equal(t, guac.ClientForbidden, status, "in a subprotocol")
	})
	t.Run("none, malformed, of no session", func(t *testing.T) {
		o := r.open(p, conn, "ann")
		for _, query := range []string{"", "ticket=", "ticket=x", "undefined"} {
			status, _ := dial(t, p, o.GetTunnelPath(), query).closed()
			require.Equal(t, guac.ClientUnauthorized, status)
		}
		status, _ := dial(t, p, "/tunnel/orgs/acme/sessions/nope", "ticket=x").closed()
		require.Equal(t, guac.ClientUnauthorized, status)
	})
	t.Run("a bad screen does not use it up", func(t *testing.T) {
		o := r.open(p, conn, "ann")
		for _, bad := range []string{"GUAC_WIDTH=x", "GUAC_HEIGHT=-1", "GUAC_DPI=NaN", "GUAC_TIMEZONE=../etc", "GUAC_IMAGE=png%0a"} {
			status, told := dial(t, p, o.GetTunnelPath(), bad+"&ticket="+o.GetTicket()).closed()
			require.Equal(t, guac.ClientBadRequest, status)
			require.NotEmpty(t, told)
		}
		d := dial(t, p, o.GetTunnelPath(), "ticket="+o.GetTicket())
		d.wait("a frame", func() bool { return d.syncs > 0 })
	})
	t.Run("from a page of another origin", func(t *testing.T) {
		o := r.open(p, conn, "ann")
		_, resp, err := websocket.Dial(t.Context(), p.url+o.GetTunnelPath()+"?ticket="+o.GetTicket(), &websocket.DialOptions{
			Subprotocols: []string{"guacamole"}, HTTPHeader: http.Header{"Origin": {"https://evil.example.com"}}})
		require.Error(t, err)
		require.Equal(t, http.StatusForbidden, resp.StatusCode)
		d := dial(t, p, o.GetTunnelPath(), "ticket="+o.GetTicket())
		d.wait("a frame", func() bool { return d.syncs > 0 })
	})
	t.Run("of a session that was terminated before", func(t *testing.T) {
		o := r.open(p, conn, "ann")
		out, err := p.TerminateSession(as(t, "boss"), &connectionv1.TerminateSessionRequest{Name: o.GetSession().GetName()})
		require.NoError(t, err)
		require.Equal(t, connectionv1.Session_STATE_ENDED, out.GetSession().GetState())
		status, _ := dial(t, p, o.GetTunnelPath(), "ticket="+o.GetTicket()).closed()
		require.Equal(t, guac.SessionConflict, status)
	})
	require.NotContains(t, r.log.String(), "ticket=")
}

// This waits the real 30 s, because the duration is what is guaranteed.
func TestATicketExpires(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.start()
	o := r.open(p, r.define(p, "shell"), "ann")
	require.WithinDuration(t, time.Now().Add(30*time.Second), o.GetTicketExpireTime().AsTime(), 5*time.Second)
	time.Sleep(time.Until(o.GetTicketExpireTime().AsTime().Add(200 * time.Millisecond)))
	status, told := dial(t, p, o.GetTunnelPath(), "ticket="+o.GetTicket()).closed()
	require.Equal(t, guac.ClientUnauthorized, status)
	require.True(t, strings.HasPrefix(told, "TICKET_INVALID: "))
	over := r.session(p, o.GetSession().GetName(), connectionv1.Session_STATE_ENDED)
	require.Equal(t, "ticket_expired", over.GetEndReason())
	require.Empty(t, over.GetCapture())
}
