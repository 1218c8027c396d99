package tunnel

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gobwas/ws"
)

// Subprotocol is the WebSocket subprotocol of the tunnel.
const Subprotocol = "guacamole"

// ticketPrefix marks the ticket among the offered subprotocols.
const ticketPrefix = "ticket."

// ErrRejected says that the request was answered with an HTTP error.
var ErrRejected = errors.New("tunnel: request rejected")

// Accept upgrades a request to a WebSocket. An error wraps ErrRejected and
// has been answered.
//
// A browser's page can open a WebSocket to any host, with that host's cookies
// (cross-site WebSocket hijacking). So a request that has an Origin, as every
// browser's has, must come from the host it goes to or from one of origins
// ("https://desk.example.com", exactly). Programs that are no browser send
// none and could send any; the ticket is what stops them.
func Accept(w http.ResponseWriter, r *http.Request, origins []string) (*Browser, error) {
	return accept(w, r, origins, usual())
}

func accept(w http.ResponseWriter, r *http.Request, origins []string, t times) (*Browser, error) {
	switch {
	case r.Method != http.MethodGet || !strings.EqualFold(r.Header.Get("Upgrade"), "websocket"):
		w.Header().Set("Upgrade", "websocket")
		return nil, reject(w, http.StatusUpgradeRequired, "this is a WebSocket endpoint")
	case !originAllowed(r, origins):
		return nil, reject(w, http.StatusForbidden, "pages of this origin may not open a session here; ask the operator to add it to the allowed origins")
	case !slices.Contains(subprotocols(r), Subprotocol):
		return nil, reject(w, http.StatusBadRequest, `offer the WebSocket subprotocol "guacamole"`)
	}
	up := ws.HTTPUpgrader{Protocol: func(p string) bool { return p == Subprotocol }, Timeout: t.write}
	conn, rw, _, err := up.Upgrade(r, w)
	if err != nil {
		if conn != nil {
			_ = conn.Close() // hijacked, answered, and of no use
		}
		return nil, fmt.Errorf("%w: upgrade: %w", ErrRejected, err)
	}
	early, _ := rw.Reader.Peek(rw.Reader.Buffered())
	return newBrowser(conn, early, t), nil
}

// Ticket returns the one-time ticket of a request: the offered subprotocol
// "ticket.<ticket>" or, for guacamole-common-js, whose WebSocketTunnel can send
// nothing but a query, the parameter "ticket". A query lands in the logs of
// proxies; the ticket is worthless there, since it works once and for 30 s.
// Our own logs never hold a query.
func Ticket(r *http.Request) string {
	for _, p := range subprotocols(r) {
		if t, is := strings.CutPrefix(p, ticketPrefix); is {
			return t
		}
	}
	return r.URL.Query().Get("ticket")
}

func subprotocols(r *http.Request) []string {
	var out []string
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for p := range strings.SplitSeq(line, ",") {
			out = append(out, strings.TrimSpace(p))
		}
	}
	return out
}

func originAllowed(r *http.Request, origins []string) bool {
	list := r.Header.Values("Origin")
	if len(list) == 0 {
		return true
	}
	if len(list) > 1 {
		return false
	}
	if slices.Contains(origins, list[0]) {
		return true
	}
	u, err := url.Parse(list[0])
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

func reject(w http.ResponseWriter, code int, why string) error {
	http.Error(w, why, code)
	return fmt.Errorf("%w: %d: %s", ErrRejected, code, why)
}
