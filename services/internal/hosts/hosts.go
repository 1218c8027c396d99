// Package hosts refuses HTTP requests for names that a server does not have. A
// page of an attacker can let its own name point to an address inside a network
// (DNS rebinding) and then talk to whatever listens there, as if it were its own
// origin. The Host header still has the attacker's name.
package hosts

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Allowed returns nil if the request is for a loopback name, for the address
// that its connection came to, or for one of the names. A name has no port;
// "*.example.com" stands for all names that end in ".example.com", and "*" for
// all. Case does not matter (RFC 9110 §4.2.3).
func Allowed(r *http.Request, names []string) bool {
	host := name(r.Host)
	if host == "localhost" {
		return true
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.IsLoopback() || ip.Unmap() == local(r) {
			return true
		}
	}
	return slices.ContainsFunc(names, func(n string) bool {
		n = strings.ToLower(n)
		suffix, wild := strings.CutPrefix(n, "*")
		return n == host || wild && (suffix == "" || strings.HasPrefix(suffix, ".") && strings.HasSuffix(host, suffix))
	})
}

// name returns a Host header's name or address, without port and brackets, in
// lower case.
func name(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// local returns the address that the request's connection came to.
func local(r *http.Request) netip.Addr {
	a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return netip.Addr{}
	}
	at, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap().WithZone("")
}

// Check returns a handler that answers requests for other names with 421
// (RFC 9110 §15.5.20).
func Check(names []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !Allowed(r, names) {
			http.Error(w, Refusal, http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Refusal says why a request was refused, and what to do.
const Refusal = "this server does not have the name in the Host header; call it by localhost, by its address, or by a name that is in listen.hosts"
