package edge

import (
	"net/http"
	"slices"
	"strings"
)

// cors lets pages of the configured origins read the API's responses (Fetch
// Standard, "CORS protocol"). Calls carry a bearer token and no cookies, so
// credentials are never allowed.
type cors struct {
	next    http.Handler
	origins []string
}

func (c *cors) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	origin := r.Header.Get("Origin")
	if origin == "" || len(c.origins) == 0 {
		c.next.ServeHTTP(w, r)
		return
	}
	w.Header().Add("Vary", "Origin")
	if !slices.Contains(c.origins, origin) {
		c.next.ServeHTTP(w, r)
		return
	}
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", origin)
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		h.Set("Access-Control-Expose-Headers", strings.Join(exposed(), ", "))
		c.next.ServeHTTP(w, r)
		return
	}
	h.Set("Access-Control-Allow-Methods", "GET, POST, PATCH, DELETE")
	h.Set("Access-Control-Allow-Headers", strings.Join(accepted(), ", "))
	h.Set("Access-Control-Max-Age", "7200") // seconds; Chromium's maximum
	w.WriteHeader(http.StatusNoContent)
}

// accepted lists the request headers of JSON, Connect and gRPC-Web clients.
func accepted() []string {
	return []string{
		"Authorization", "Content-Type", "Connect-Protocol-Version", "Connect-Timeout-Ms",
		"Grpc-Timeout", "X-Grpc-Web", "X-User-Agent",
	}
}

// exposed lists the response headers that carry a gRPC-Web call's status.
func exposed() []string { return []string{"Grpc-Status", "Grpc-Message", "Grpc-Status-Details-Bin"} }
