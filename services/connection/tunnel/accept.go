package tunnel

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gobwas/ws"
)

// ticketPrefix and bearerPrefix mark the ticket and a token among the offered
// subprotocols.
const (
	ticketPrefix = "ticket."
	bearerPrefix = "bearer."
)

// patience is how long either direction may stand still, unless Options say
// otherwise.
const patience = 15 * time.Second

// ErrRejected means that the request was answered with an HTTP error.
var ErrRejected = errors.New("tunnel: request rejected")

// Options are the rules for accepting a WebSocket.
type Options struct {
	// Subprotocols are those that the server speaks; the first one offered by
	// the client that is among them is agreed.
	Subprotocols []string
	// Origins are the origins besides the request's own host whose pages may
	// connect: "https://desk.example.com", compared exactly.
	Origins []string
	// Read is the longest silence of the client and Write the longest time it
	// may take to accept one message; 0 means 15 s.
	Read, Write time.Duration
}

// Accept upgrades a request to a WebSocket. An error wraps ErrRejected, and
// the request has been answered.
//
// A page in a browser can open a WebSocket to any host, with that host's
// cookies (cross-site WebSocket hijacking). A request with an Origin header,
// which every browser sends, must therefore come from the host it goes to or
// from one of the allowed origins. Other programs send no Origin or could
// forge one; the ticket stops them.
func Accept(w http.ResponseWriter, r *http.Request, o Options) (*Socket, error) {
	if o.Read == 0 {
		o.Read = patience
	}
	if o.Write == 0 {
		o.Write = patience
	}
	agreed := agree(r, o.Subprotocols)
	switch {
	case r.Method != http.MethodGet || !strings.EqualFold(r.Header.Get("Upgrade"), "websocket"):
		w.Header().Set("Upgrade", "websocket")
		return nil, reject(w, http.StatusUpgradeRequired, "this is a WebSocket endpoint")
	case !originAllowed(r, o.Origins):
		return nil, reject(w, http.StatusForbidden, "pages of this origin may not open a session here; ask the operator to add it to the allowed origins")
	case agreed == "":
		return nil, reject(w, http.StatusBadRequest, fmt.Sprintf("offer one of the WebSocket subprotocols %q", o.Subprotocols))
	}
	up := ws.HTTPUpgrader{Protocol: func(p string) bool { return p == agreed }, Timeout: o.Write}
	conn, rw, _, err := up.Upgrade(r, w)
	if err != nil {
		if conn != nil {
			_ = conn.Close() // hijacked and answered
		}
		return nil, fmt.Errorf("%w: upgrade: %w", ErrRejected, err)
	}
	early, _ := rw.Reader.Peek(rw.Reader.Buffered())
	return newSocket(conn, agreed, early, o), nil
}

// Ticket returns the one-time ticket of a request: the offered subprotocol
// "ticket.<ticket>" or, for guacamole-common-js, whose WebSocketTunnel can
// send only a query, the parameter "ticket". Proxies may log a query; the
// ticket is worthless there, since it works once and for 30 s. The relay's
// own logs never hold a query.
func Ticket(r *http.Request) string {
	for _, p := range offered(r) {
		if t, is := strings.CutPrefix(p, ticketPrefix); is {
			return t
		}
	}
	return r.URL.Query().Get("ticket")
}

// Proof returns the authorization headers by which a request says who makes it,
// besides its ticket: its own, if one is a bearer token, and the offered
// subprotocol "bearer.<token>", since a page cannot set a header of a WebSocket.
// None is no error: guacamole-common-js can send neither.
func Proof(r *http.Request) []string {
	var out []string
	for _, h := range r.Header.Values("Authorization") {
		if scheme, _, _ := strings.Cut(h, " "); strings.EqualFold(scheme, "Bearer") { // a proxy's Basic is no proof
			out = append(out, h)
		}
	}
	for _, p := range offered(r) {
		if t, is := strings.CutPrefix(p, bearerPrefix); is {
			out = append(out, "Bearer "+t)
		}
	}
	return out
}

// agree returns the first offered subprotocol that is among known, or "".
func agree(r *http.Request, known []string) string {
	for _, p := range offered(r) {
		if slices.Contains(known, p) {
			return p
		}
	}
	return ""
}

func offered(r *http.Request) []string {
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
