package app

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/openova-io/bp-relay/services/internal/auth"
)

// insecure returns what of the configuration would let strangers read or forge
// what relay sends and accepts, and the switches that say so are not set.
func (c *Config) insecure() []error {
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	t := &c.Listen.TLS
	for _, a := range [][2]string{{"listen.api", c.Listen.API}, {"listen.admin", c.Listen.Admin}} {
		if t.Cert == "" && !c.Listen.Plaintext && !onLoopback(a[1]) {
			refuse("%s: %s can be reached from other machines and has no TLS; set listen.tls.cert and listen.tls.key, or listen.plaintext if a proxy or a mesh encrypts", a[0], a[1])
		}
	}
	if (t.Cert == "") != (t.Key == "") {
		refuse("listen.tls: set both cert and key, or neither")
	}
	if t.Cert == "" && (t.ClientCA != "" || t.AdminClientCA != "") {
		refuse("listen.tls: client certificates need TLS; set cert and key")
	}
	if c.Auth.Issuer != "" {
		if err := auth.SafeIssuer(c.Auth.Issuer, c.Auth.PlaintextIssuer); err != nil {
			refuse("auth.issuer: %w", err)
		}
	}
	for _, a := range [][2]string{{"remote.room", c.Remote.Room}, {"remote.turn", c.Remote.Turn}} {
		if a[1] != "" && c.Remote.TLS.CA == "" && !c.Listen.Plaintext && !onLoopback(a[1]) {
			refuse("%s: calls to %s would not be encrypted; set remote.tls.ca, or listen.plaintext if a proxy or a mesh encrypts", a[0], a[1])
		}
	}
	if (c.Remote.TLS.Cert == "") != (c.Remote.TLS.Key == "") || c.Remote.TLS.CA == "" && c.Remote.TLS.Cert != "" {
		refuse("remote.tls: set ca, and both cert and key or neither")
	}
	return errs
}

// onLoopback reports whether host:port is on loopback; an address that has
// another form is somebody else's error.
func onLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil || host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
