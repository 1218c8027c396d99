// Package turn lets browsers reach the SFU through STUNner. It owns the TURN
// gateways: it compiles each to the configuration of its data plane (stunnerd),
// serves that by STUNner's config discovery protocol, mints short-lived
// credentials for participants, and hands a gateway out only after a probe
// through it succeeded.
//
// A gateway is an allow-list: through it, clients with a credential reach the
// SFU's address and UDP port range and nothing else. "Every port" and "every
// address" cannot be expressed; what is not listed is denied.
package turn

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
)

// Protocol is how clients reach a listener.
type Protocol string

// The protocols. TURN over DTLS is left out: browsers do not offer it.
const (
	UDP Protocol = "TURN-UDP" // turn:host:port?transport=udp
	TCP Protocol = "TURN-TCP" // turn:host:port?transport=tcp
	TLS Protocol = "TURN-TLS" // turns:host:port?transport=tcp
)

// Listener is one address that clients dial.
type Listener struct {
	// Name is unique in the gateway: lower-case letters, digits, hyphens.
	Name     string   `json:"name"`
	Protocol Protocol `json:"protocol"`
	// Port is the port that the data plane binds, 1 to 65535, on all its
	// interfaces: stunnerd cannot bind one address.
	Port uint16 `json:"port"`
	// RelayAddr is the data plane's own address as the SFU sees it: the
	// address of relayed candidates.
	RelayAddr netip.Addr `json:"relayAddr"`
	// PublicHost (IP address or DNS name) and PublicPort are what clients
	// dial; empty and 0 mean RelayAddr and Port.
	PublicHost string `json:"publicHost,omitempty"`
	PublicPort uint16 `json:"publicPort,omitempty"`
	// Cert and Key are PEM; TLS needs both, the others take none.
	Cert string `json:"cert,omitempty"`
	Key  string `json:"key,omitempty"`
}

// Peer is a destination that clients may reach: one address, one port range.
type Peer struct {
	Addr    netip.Addr `json:"addr"`
	MinPort uint16     `json:"minPort"`
	MaxPort uint16     `json:"maxPort"`
}

// Gateway is what a user configures.
type Gateway struct {
	// Name is "orgs/{org}/gateways/{g}", or "gateways/{g}" for one that the
	// configuration gives to every organisation.
	Name      string     `json:"name"`
	Listeners []Listener `json:"listeners"`
	// Peers are the SFU's addresses.
	Peers []Peer `json:"peers"`
	// Health and Metrics are the loopback addresses on which the data plane
	// serves its health and its metrics. Metrics is optional.
	Health  netip.AddrPort `json:"health"`
	Metrics netip.AddrPort `json:"metrics,omitzero"`
	// UserQuota is how many allocations the data plane lets one credential have at
	// once; 0 means no bound. STUNner's free build does not look at it: see
	// docs/turn.md.
	UserQuota int `json:"user_quota,omitzero"`
	// Epoch counts the rotations of the secret that signs credentials.
	Epoch uint32 `json:"epoch"`
}

// ErrGateway: a gateway breaks a rule. Every *FieldError is one.
var ErrGateway = errors.New("turn: invalid gateway")

// FieldError names the field of a gateway that breaks a rule, and says how to
// correct it.
type FieldError struct{ Field, Problem string }

func (e *FieldError) Error() string { return fmt.Sprintf("turn: %s: %s", e.Field, e.Problem) }

// Unwrap makes every FieldError an ErrGateway.
func (e *FieldError) Unwrap() error { return ErrGateway }

func bad(field, format string, args ...any) error {
	return &FieldError{Field: field, Problem: fmt.Sprintf(format, args...)}
}

// maxEntries bounds listeners and peers of one gateway.
const maxEntries = 32

var (
	// label is part of URLs and of the data plane's configuration. It allows no
	// '$', which the data plane would expand from its environment.
	label       = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	gatewayName = regexp.MustCompile(`^(?:orgs/([a-z0-9][a-z0-9-]{0,62})/)?gateways/([a-z0-9][a-z0-9-]{0,62})$`)
	dnsName     = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
)

// Org returns the id of the organisation that the gateway serves, "" if it
// serves every organisation.
func (g *Gateway) Org() string {
	if m := gatewayName.FindStringSubmatch(g.Name); m != nil {
		return m[1]
	}
	return ""
}

// ID returns the gateway's id in the discovery protocol, stunnerd's flag -i:
// "relay/{g}" if it serves every organisation, otherwise "org-{org}/{g}". It
// returns "" if the name is invalid.
func (g *Gateway) ID() string {
	m := gatewayName.FindStringSubmatch(g.Name)
	switch {
	case m == nil:
		return ""
	case m[1] == "":
		return "relay/" + m[2]
	}
	return "org-" + m[1] + "/" + m[2]
}

// Check rewrites addresses into one canonical form (an IPv4-mapped IPv6 address
// becomes IPv4, RFC 4291 section 2.5.5.2, so that no other notation evades a
// rule) and returns a *FieldError for the first rule that the gateway breaks.
func (g *Gateway) Check() error {
	if g.ID() == "" {
		return bad("name", "%q: want orgs/{org}/gateways/{gateway} with lower-case letters, digits and hyphens", g.Name)
	}
	if err := checkLoopback("health", &g.Health, true); err != nil {
		return err
	}
	if err := checkLoopback("metrics", &g.Metrics, false); err != nil {
		return err
	}
	if g.Metrics == g.Health {
		return bad("metrics", "is also the health address; give it another port")
	}
	if n := len(g.Listeners); n == 0 || n > maxEntries {
		return bad("listeners", "has %d entries, want 1 to %d", n, maxEntries)
	}
	names, sockets := map[string]bool{}, map[string]bool{}
	for i := range g.Listeners {
		l, field := &g.Listeners[i], fmt.Sprintf("listeners[%d]", i)
		if err := l.check(field); err != nil {
			return err
		}
		transport := "tcp"
		if l.Protocol == UDP {
			transport = "udp"
		}
		socket := fmt.Sprintf("%s/%d", transport, l.Port)
		if names[l.Name] || sockets[socket] {
			return bad(field, "has the name or the port (%s) of an earlier listener", socket)
		}
		names[l.Name], sockets[socket] = true, true
	}
	if n := len(g.Peers); n == 0 || n > maxEntries {
		return bad("peers", "has %d entries, want 1 to %d: name the SFU's address and UDP port range", n, maxEntries)
	}
	for i := range g.Peers {
		if err := g.Peers[i].check(fmt.Sprintf("peers[%d]", i)); err != nil {
			return err
		}
		if !g.Peers[i].Addr.IsLoopback() {
			continue
		}
		for _, l := range g.Listeners {
			if !l.RelayAddr.IsLoopback() {
				return bad(fmt.Sprintf("peers[%d].address", i), "%s is loopback, but the relay address %s is not; give the SFU's address outside this machine", g.Peers[i].Addr, l.RelayAddr)
			}
		}
	}
	return nil
}

func (l *Listener) check(field string) error {
	l.RelayAddr = l.RelayAddr.Unmap()
	switch {
	case !label.MatchString(l.Name):
		return bad(field+".name", "%q: want lower-case letters, digits and hyphens", l.Name)
	case l.Port == 0:
		return bad(field+".port", "is missing")
	case !l.RelayAddr.IsValid() || l.RelayAddr.IsUnspecified() || l.RelayAddr.IsMulticast() || l.RelayAddr.Zone() != "":
		return bad(field+".relay_address", "%q is not the address of a host; give the data plane's address", l.RelayAddr)
	}
	if err := checkHost(field+".public_host", l.PublicHost); err != nil {
		return err
	}
	switch l.Protocol {
	case UDP, TCP:
		if l.Cert != "" || l.Key != "" {
			return bad(field+".cert", "%s takes no certificate", l.Protocol)
		}
	case TLS:
		if _, err := tls.X509KeyPair([]byte(l.Cert), []byte(l.Key)); err != nil {
			// Errors of crypto/tls contain no key material.
			return bad(field+".cert", "certificate or key is not valid PEM, or they do not match: %v", err)
		}
	default:
		return bad(field+".protocol", "%q: want %s, %s or %s", l.Protocol, UDP, TCP, TLS)
	}
	return nil
}

func (p *Peer) check(field string) error {
	p.Addr = p.Addr.Unmap()
	switch {
	case !p.Addr.IsValid() || p.Addr.Zone() != "":
		return bad(field+".address", "is not an IP address")
	case p.Addr.IsUnspecified():
		// The unspecified address reaches the data plane's own host: CVE-2020-26262.
		return bad(field+".address", "%s means every address; give the SFU's", p.Addr)
	case p.Addr.IsMulticast() || p.Addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return bad(field+".address", "%s is not the address of one host", p.Addr)
	case p.Addr.IsLinkLocalUnicast():
		return bad(field+".address", "%s is link-local, where clouds have their metadata service; give the SFU's address", p.Addr)
	case p.MinPort == 0 || p.MinPort > p.MaxPort:
		return bad(field, "port range %d to %d is empty; give the SFU's UDP ports", p.MinPort, p.MaxPort)
	case p.MinPort < 1024:
		return bad(field+".min_port", "%d is a system port, which no SFU uses for media", p.MinPort)
	}
	return nil
}

func checkHost(field, host string) error {
	if host == "" {
		return nil
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.IsUnspecified() || ip.IsMulticast() || ip.Zone() != "" || ip.Is4In6() {
			return bad(field, "%q cannot be dialled; give a host's address", host)
		}
		return nil
	}
	if len(host) > 253 || !dnsName.MatchString(host) {
		return bad(field, "%q is neither an IP address nor a lower-case DNS name", host)
	}
	return nil
}

// checkLoopback checks that *a is a loopback address with a port, or is not set
// if must is false. stunnerd's health endpoint shows the secret in clear text:
// it must not be reachable from outside.
func checkLoopback(field string, a *netip.AddrPort, must bool) error {
	if !a.IsValid() && !must {
		return nil
	}
	*a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	if !a.IsValid() || !a.Addr().IsLoopback() || a.Port() == 0 {
		return bad(field, "%s: want a loopback address with a port", a)
	}
	return nil
}

// dial returns what clients dial.
func (l *Listener) dial() (host string, port uint16) {
	host, port = l.PublicHost, l.PublicPort
	if host == "" {
		host = l.RelayAddr.String()
	}
	if port == 0 {
		port = l.Port
	}
	return host, port
}

// URL returns the listener's ICE server URL in the form of RFC 7065.
func (l *Listener) URL() string {
	host, port := l.dial()
	scheme, transport := "turn", "udp"
	switch l.Protocol {
	case TCP:
		transport = "tcp"
	case TLS:
		scheme, transport = "turns", "tcp"
	}
	// JoinHostPort puts an IPv6 address into brackets.
	return scheme + ":" + net.JoinHostPort(host, fmt.Sprint(port)) + "?transport=" + transport
}

// URLs returns the URLs of all listeners, UDP first and TLS last: a client should
// try TLS last.
func (g *Gateway) URLs() []string {
	var out []string
	for _, p := range []Protocol{UDP, TCP, TLS} {
		for i := range g.Listeners {
			if g.Listeners[i].Protocol == p {
				out = append(out, g.Listeners[i].URL())
			}
		}
	}
	return out
}

// clone returns a copy that shares nothing with g: Check changes addresses in
// place.
func (g Gateway) clone() Gateway {
	g.Listeners, g.Peers = slices.Clone(g.Listeners), slices.Clone(g.Peers)
	return g
}

// Redacted returns a copy without private keys, for logs and answers.
func (g Gateway) Redacted() Gateway {
	g = g.clone()
	for i := range g.Listeners {
		if g.Listeners[i].Key != "" {
			g.Listeners[i].Key = "********"
		}
	}
	return g
}
