package rtc

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"

	"github.com/pion/stun/v3"
)

// Config says how a participant joins a room.
type Config struct {
	Engine *Engine
	// URL is LiveKit's ("ws://host:port"), Token the participant's access token.
	URL, Token string
	// Path is one of the paths. If it is not Direct, TURN is the server on it. For
	// TURNTLS, TLS says how the server is verified; nil means by the system's roots.
	Path string
	TURN TURN
	TLS  *tls.Config
	// Local is the address that all of the participant's sockets are bound to; see
	// [LocalAddr].
	Local netip.Addr
	// NACK offers generic NACK (RFC 4585 section 6.2.1) for each codec: a subscriber may
	// request lost packets, and LiveKit may request a publisher's.
	NACK bool
}

// check completes the configuration. It returns [ErrTURN] if TURN does not fit Path.
func (c *Config) check() error {
	if c.Path != Direct {
		if got := TURNPath(c.TURN.URL); got == "" || got != c.Path {
			return fmt.Errorf("%w: %q is for %q, want %s", ErrTURN, c.TURN.URL, got, c.Path)
		}
	}
	if c.Path == TURNTLS && c.TLS == nil {
		u, err := stun.ParseURI(c.TURN.URL)
		if err != nil {
			return fmt.Errorf("%w: %q", ErrTURN, c.TURN.URL)
		}
		c.TLS = &tls.Config{ServerName: u.Host}
	}
	if c.Path != TURNTLS {
		c.TLS = nil
	}
	return nil
}

// LocalAddr returns the address of this machine that its routes use for a host (a
// name or an address). Nothing is sent.
func LocalAddr(host string) (netip.Addr, error) {
	c, err := net.Dial("udp", net.JoinHostPort(host, "9")) //nolint:noctx // UDP: it does not block
	if err != nil {
		return netip.Addr{}, fmt.Errorf("no route to %s: %w", host, err)
	}
	defer func() { _ = c.Close() }()
	a, ok := c.LocalAddr().(*net.UDPAddr)
	if !ok {
		return netip.Addr{}, fmt.Errorf("no route to %s", host)
	}
	return a.AddrPort().Addr().Unmap(), nil
}
