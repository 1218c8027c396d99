package app

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"

	"github.com/openova-io/bp-relay/services/connection/address"
	"github.com/openova-io/bp-relay/services/connection/engine/guacd"
)

// guacdClients are the values of guacd.ssh.
func guacdClients() map[string]guacd.Client {
	return map[string]guacd.Client{"debian-11": guacd.Debian11(), "current": guacd.Current()}
}

// addresses returns the rules for what sessions may dial.
func (c *Config) addresses() (address.Rules, error) {
	r := address.Rules{Own: c.ownParts(), Orgs: map[string][]netip.Prefix{}}
	for _, text := range c.Targets.Allow {
		e, err := address.Parse(text)
		if err != nil {
			return r, fmt.Errorf("targets.allow: %w", err)
		}
		r.Allow = append(r.Allow, e)
	}
	for org, list := range c.Targets.Orgs {
		r.Orgs[org] = []netip.Prefix{} // an empty list allows nothing
		for _, text := range list {
			e, err := address.Parse(text)
			if err != nil || e.Port != 0 {
				return r, fmt.Errorf("targets.orgs.%s: %q: want an address or a network", org, text)
			}
			r.Orgs[org] = append(r.Orgs[org], e.Prefix)
		}
	}
	return r, nil
}

// ownParts lists the addresses that this installation itself uses, host:port.
func (c *Config) ownParts() []string {
	parts := []string{
		c.Listen.API, c.Listen.Admin, c.Guacd.Address, c.Turn.CDS, c.Turn.Listen, c.Turn.Health, c.Turn.Metrics,
		c.Turn.Echo, c.Remote.Room, c.Remote.Turn,
	}
	postgres, _ := c.Records.Postgres.Reveal() // a secret that cannot be read is reported by its own module
	redis, _ := c.Bus.Redis.Reveal()
	for _, text := range []string{c.LiveKit.URL, c.LiveKit.PublicURL, c.Blob.Endpoint, c.Auth.Issuer, postgres, redis} {
		u, err := url.Parse(text)
		if err != nil || u.Hostname() == "" {
			continue
		}
		port := u.Port()
		if port == "" {
			port = map[string]string{"http": "80", "ws": "80", "https": "443", "wss": "443", "redis": "6379", "rediss": "6379",
				"postgres": "5432", "postgresql": "5432"}[u.Scheme]
		}
		parts = append(parts, net.JoinHostPort(u.Hostname(), port))
	}
	return parts
}
