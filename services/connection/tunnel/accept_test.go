package tunnel_test

import (
	"bufio"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/openova-io/bp-relay/services/connection/tunnel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func options(origins ...string) tunnel.Options {
	return tunnel.Options{Subprotocols: []string{"guacamole", "other"}, Origins: origins}
}

func upgrade(host string, headers ...string) *http.Request {
	req := httptest.NewRequest(http.MethodGet, "http://"+host+"/tunnel?ticket=q", nil)
	for k, v := range map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": "guacamole"} {
		req.Header.Set(k, v)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return req
}

func TestPagesOfOtherOriginsAreRefused(t *testing.T) {
	t.Parallel()
	allowed := options("https://desk.example.com")
	for origin, want := range map[string]int{
		"https://evil.example.com":          http.StatusForbidden,
		"https://desk.example.com.evil.com": http.StatusForbidden,
		"http://desk.example.com":           http.StatusForbidden, // another scheme is another origin
		"null":                              http.StatusForbidden,
		"file://":                           http.StatusForbidden,
		"https://relay.example.com:8443":    http.StatusForbidden,
		// These pass the check; the next error is that a recorder cannot be hijacked.
		"https://desk.example.com":  http.StatusInternalServerError,
		"https://relay.example.com": http.StatusInternalServerError,
	} {
		w := httptest.NewRecorder()
		_, err := tunnel.Accept(w, upgrade("relay.example.com", "Origin", origin), allowed)
		require.ErrorIs(t, err, tunnel.ErrRejected, origin)
		require.Equal(t, want, w.Code, origin)
	}
}

func TestAcceptWantsTheSubprotocol(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	_, err := tunnel.Accept(w, upgrade("h", "Sec-WebSocket-Protocol", "chat"), options())
	require.ErrorIs(t, err, tunnel.ErrRejected)
	require.Equal(t, http.StatusBadRequest, w.Code)
	w = httptest.NewRecorder()
	_, err = tunnel.Accept(w, httptest.NewRequest(http.MethodGet, "/", nil), options())
	require.ErrorIs(t, err, tunnel.ErrRejected)
	require.Equal(t, http.StatusUpgradeRequired, w.Code)
}

func TestTicketComesInTheSubprotocolOrTheQuery(t *testing.T) {
	t.Parallel()
	require.Equal(t, "q", tunnel.Ticket(upgrade("h")))
	require.Equal(t, "abc", tunnel.Ticket(upgrade("h", "Sec-WebSocket-Protocol", "guacamole, ticket.abc")))
}

func TestTheClientsFirstKnownSubprotocolIsAgreed(t *testing.T) {
	t.Parallel()
	agreed := make(chan string, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := tunnel.Accept(w, r, options())
		if err != nil {
			agreed <- err.Error()
			return
		}
		agreed <- s.Subprotocol()
		s.Close()
	}))
	t.Cleanup(srv.Close)
	for offered, want := range map[string]string{
		"guacamole":                       "guacamole",
		"chat, other, guacamole":          "other",
		"ticket.guacamole, guacamole, zz": "guacamole",
	} {
		req := upgrade(srv.Listener.Addr().String(), "Sec-WebSocket-Protocol", offered)
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		require.NoError(t, err)
		require.NoError(t, req.Write(conn))
		resp, err := http.ReadResponse(bufio.NewReader(conn), req)
		require.NoError(t, err)
		require.Equal(t, want, resp.Header.Get("Sec-WebSocket-Protocol"), offered)
		require.Equal(t, want, <-agreed, offered)
		require.NoError(t, conn.Close())
	}
}
