package turn

import (
	"net/netip"
	"testing"

	stnrv1 "github.com/l7mp/stunner/pkg/apis/v1"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
)

func TestClassify(t *testing.T) {
	base := func() Gateway {
		g := gateway()
		g.Listeners = append(g.Listeners, Listener{Name: "tcp", Protocol: TCP, Port: 3478, RelayAddr: netip.MustParseAddr("127.0.0.1")})
		g.Peers = append(g.Peers, Peer{Addr: netip.MustParseAddr("127.0.0.2"), MinPort: 50000, MaxPort: 60000})
		return g
	}
	certPEM, keyPEM, _ := stacktest.Certificate(t)
	otherCert, otherKey, _ := stacktest.Certificate(t)
	tls := func(cert, key string) func(*Gateway) {
		return func(g *Gateway) {
			g.Listeners[1].Protocol, g.Listeners[1].Cert, g.Listeners[1].Key = TLS, cert, key
		}
	}
	for name, tc := range map[string]struct {
		from, to func(*Gateway)
		raw      func(*stnrv1.StunnerConfig) // what a gateway cannot say
		secret   string
		want     Impact
	}{
		"nothing":          {want: Impact{}},
		"log level":        {raw: func(c *stnrv1.StunnerConfig) { c.Admin.LogLevel = "all:DEBUG" }, want: Impact{Changed: true}},
		"metrics endpoint": {to: func(g *Gateway) { g.Metrics = netip.MustParseAddrPort("127.0.0.1:8099") }, want: Impact{Changed: true}},
		"health endpoint":  {to: func(g *Gateway) { g.Health = netip.MustParseAddrPort("127.0.0.1:8099") }, want: Impact{Changed: true}},
		"public address":   {to: func(g *Gateway) { g.Listeners[0].PublicHost, g.Listeners[0].PublicPort = "turn.example.org", 443 }, want: Impact{Changed: true}},
		"peer added":       {to: func(g *Gateway) { g.Peers = append(g.Peers, Peer{netip.MustParseAddr("127.0.0.3"), 5000, 6000}) }, want: Impact{Changed: true}},
		"listener added": {to: func(g *Gateway) {
			g.Listeners = append(g.Listeners, Listener{Name: "alt", Protocol: UDP, Port: 3480, RelayAddr: netip.MustParseAddr("127.0.0.1")})
		}, want: Impact{Changed: true}},
		"peer removed":    {to: func(g *Gateway) { g.Peers = g.Peers[:1] }, want: Impact{Changed: true, Cut: []string{"127.0.0.2:<50000-60000>"}}},
		"peer widened":    {to: func(g *Gateway) { g.Peers[1].MaxPort = 60001 }, want: Impact{Changed: true}},
		"peer narrowed":   {to: func(g *Gateway) { g.Peers[1].MaxPort = 55000 }, want: Impact{Changed: true, Cut: []string{"127.0.0.2:<50000-60000>"}}},
		"route lost":      {raw: func(c *stnrv1.StunnerConfig) { c.Listeners[0].Routes = nil }, want: Impact{Changed: true, Cut: []string{"127.0.0.1:<7882-7882>", "127.0.0.2:<50000-60000>"}}},
		"cluster removed": {raw: func(c *stnrv1.StunnerConfig) { c.Clusters = nil }, want: Impact{Changed: true, Cut: []string{"127.0.0.1:<7882-7882>", "127.0.0.2:<50000-60000>"}}},
		"secret":          {secret: secretOf32 + "x", want: Impact{Changed: true, Lapses: true}},
		"authentication type": {raw: func(c *stnrv1.StunnerConfig) {
			c.Auth.Type, c.Auth.Credentials = "static", map[string]string{"username": "u", "password": "p"}
		}, want: Impact{Changed: true, Lapses: true}},
		"authentication off": {raw: func(c *stnrv1.StunnerConfig) { c.Auth.Type = "none" }, want: Impact{Changed: true, Lapses: true, Dropped: []string{"udp", "tcp"}}},
		"realm":              {raw: func(c *stnrv1.StunnerConfig) { c.Auth.Realm = "elsewhere" }, want: Impact{Changed: true, Dropped: []string{"udp", "tcp"}}},
		"listener port":      {to: func(g *Gateway) { g.Listeners[1].Port = 3479 }, want: Impact{Changed: true, Dropped: []string{"tcp"}}},
		"listener address":   {to: func(g *Gateway) { g.Listeners[0].RelayAddr = netip.MustParseAddr("127.0.0.9") }, want: Impact{Changed: true, Dropped: []string{"udp"}}},
		"listener protocol":  {to: tls(certPEM, keyPEM), want: Impact{Changed: true, Dropped: []string{"tcp"}}},
		"certificate":        {from: tls(certPEM, keyPEM), to: tls(otherCert, otherKey), want: Impact{Changed: true, Dropped: []string{"tcp"}}},
		"listener removed":   {to: func(g *Gateway) { g.Listeners = g.Listeners[:1] }, want: Impact{Changed: true, Dropped: []string{"tcp"}}},
		"listener renamed":   {to: func(g *Gateway) { g.Listeners[1].Name = "tcp2" }, want: Impact{Changed: true, Dropped: []string{"tcp"}}},
	} {
		t.Run(name, func(t *testing.T) {
			from, to, secret := base(), base(), secretOf32
			if tc.from != nil {
				tc.from(&from)
			}
			if tc.to != nil {
				tc.to(&to)
			}
			if tc.secret != "" {
				secret = tc.secret
			}
			before, after := compile(t, from, secretOf32).Config, compile(t, to, secret).Config
			if tc.raw != nil {
				tc.raw(after)
				require.NoError(t, after.Validate())
			}
			got := Classify(before, after)
			require.Equal(t, tc.want, got)
			require.Equal(t, len(tc.want.Dropped) > 0 || len(tc.want.Cut) > 0 || tc.want.Lapses, got.Destructive())
		})
	}
	first := Classify(nil, compile(t, base(), secretOf32).Config)
	require.True(t, first.Changed)
	require.False(t, first.Destructive(), "a data plane without a configuration has nothing to lose")
}
