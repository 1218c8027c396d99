// Package hostcheck is relay's check of the Host header for the HTTP servers of
// tools that are not part of relay, such as the load tester's metrics: a page of
// an attacker cannot read them by a name of its own (DNS rebinding).
package hostcheck

import (
	"net/http"

	"github.com/openova-io/bp-relay/services/internal/hosts"
)

// Handler returns a handler that answers requests for other names than loopback's,
// the address that was called, and names with 421. A name has no port;
// "*.example.com" stands for all that end so.
func Handler(names []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !hosts.Allowed(r, names) {
			http.Error(w, "this server does not have the name in the Host header; call it by localhost, by its address, or by a name that it was started with",
				http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}
