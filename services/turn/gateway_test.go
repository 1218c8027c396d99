package turn

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
)

func gateway() Gateway {
	return Gateway{
		Name:      "gateways/default",
		Listeners: []Listener{{Name: "udp", Protocol: UDP, Port: 3478, RelayAddr: netip.MustParseAddr("127.0.0.1")}},
		Peers:     []Peer{{Addr: netip.MustParseAddr("127.0.0.1"), MinPort: 7882, MaxPort: 7882}},
		Health:    netip.MustParseAddrPort("127.0.0.1:8086"),
	}
}

func TestGatewayRules(t *testing.T) {
	addr := netip.MustParseAddr
	certPEM, keyPEM, _ := stacktest.Certificate(t)
	for name, tc := range map[string]struct {
		change func(*Gateway)
		field  string
	}{
		"name without gateway":        {func(g *Gateway) { g.Name = "orgs/acme" }, "name"},
		"name that expands":           {func(g *Gateway) { g.Name = "orgs/acme/gateways/$HOME" }, "name"},
		"upper case":                  {func(g *Gateway) { g.Name = "gateways/Default" }, "name"},
		"no health":                   {func(g *Gateway) { g.Health = netip.AddrPort{} }, "health"},
		"health for the world to see": {func(g *Gateway) { g.Health = netip.MustParseAddrPort("0.0.0.0:8086") }, "health"},
		"metrics for the world":       {func(g *Gateway) { g.Metrics = netip.MustParseAddrPort("192.0.2.7:8088") }, "metrics"},
		"health and metrics together": {func(g *Gateway) { g.Metrics = g.Health }, "metrics"},
		"no listener":                 {func(g *Gateway) { g.Listeners = nil }, "listeners"},
		"listener name that expands":  {func(g *Gateway) { g.Listeners[0].Name = "${PATH}" }, "listeners[0].name"},
		"no port":                     {func(g *Gateway) { g.Listeners[0].Port = 0 }, "listeners[0].port"},
		"relay everywhere":            {func(g *Gateway) { g.Listeners[0].RelayAddr = addr("0.0.0.0") }, "listeners[0].relay_address"},
		"relay nowhere":               {func(g *Gateway) { g.Listeners[0].RelayAddr = netip.Addr{} }, "listeners[0].relay_address"},
		"public host that expands":    {func(g *Gateway) { g.Listeners[0].PublicHost = "$HOST" }, "listeners[0].public_host"},
		"public host with a port":     {func(g *Gateway) { g.Listeners[0].PublicHost = "turn.example:3478" }, "listeners[0].public_host"},
		"public host unspecified":     {func(g *Gateway) { g.Listeners[0].PublicHost = "::" }, "listeners[0].public_host"},
		"unknown protocol":            {func(g *Gateway) { g.Listeners[0].Protocol = "TURN-DTLS" }, "listeners[0].protocol"},
		"TLS without a pair":          {func(g *Gateway) { g.Listeners[0].Protocol = TLS }, "listeners[0].cert"},
		"UDP with a pair":             {func(g *Gateway) { g.Listeners[0].Cert, g.Listeners[0].Key = certPEM, keyPEM }, "listeners[0].cert"},
		"two listeners of one name": {func(g *Gateway) {
			g.Listeners = append(g.Listeners, Listener{Name: "udp", Protocol: TCP, Port: 3479, RelayAddr: addr("127.0.0.1")})
		}, "listeners[1]"},
		"TCP and TLS on one port": {func(g *Gateway) {
			g.Listeners = []Listener{{Name: "a", Protocol: TCP, Port: 443, RelayAddr: addr("127.0.0.1")}, {Name: "b", Protocol: TLS, Port: 443, RelayAddr: addr("127.0.0.1"), Cert: certPEM, Key: keyPEM}}
		}, "listeners[1]"},
		"no peer":                      {func(g *Gateway) { g.Peers = nil }, "peers"},
		"peer without address":         {func(g *Gateway) { g.Peers[0].Addr = netip.Addr{} }, "peers[0].address"},
		"peer 0.0.0.0":                 {func(g *Gateway) { g.Peers[0].Addr = addr("0.0.0.0") }, "peers[0].address"},
		"peer ::":                      {func(g *Gateway) { g.Peers[0].Addr = addr("::") }, "peers[0].address"},
		"peer 0.0.0.0 in IPv6 clothes": {func(g *Gateway) { g.Peers[0].Addr = addr("::ffff:0.0.0.0") }, "peers[0].address"},
		"peer is the metadata service": {func(g *Gateway) { g.Peers[0].Addr = addr("169.254.169.254") }, "peers[0].address"},
		"metadata in IPv6 clothes":     {func(g *Gateway) { g.Peers[0].Addr = addr("::ffff:169.254.169.254") }, "peers[0].address"},
		"peer is a group":              {func(g *Gateway) { g.Peers[0].Addr = addr("224.0.0.1") }, "peers[0].address"},
		"peer broadcast":               {func(g *Gateway) { g.Peers[0].Addr = addr("255.255.255.255") }, "peers[0].address"},
		"peer with a zone":             {func(g *Gateway) { g.Peers[0].Addr = addr("fe80::1%eth0") }, "peers[0].address"},
		"peer without ports":           {func(g *Gateway) { g.Peers[0].MinPort, g.Peers[0].MaxPort = 0, 0 }, "peers[0]"},
		"peer ports backwards":         {func(g *Gateway) { g.Peers[0].MinPort = 7883 }, "peers[0]"},
		"peer with every port":         {func(g *Gateway) { g.Peers[0].MinPort, g.Peers[0].MaxPort = 1, 65535 }, "peers[0].min_port"},
		"loopback peer for outsiders":  {func(g *Gateway) { g.Listeners[0].RelayAddr = addr("192.0.2.10") }, "peers[0].address"},
	} {
		t.Run(name, func(t *testing.T) {
			g := gateway()
			tc.change(&g)
			err := g.Check()
			require.ErrorIs(t, err, ErrGateway)
			var fe *FieldError
			require.ErrorAs(t, err, &fe)
			require.Equal(t, tc.field, fe.Field)
			require.NotEmpty(t, fe.Problem)
			_, err = Compile(g, secretOf32, netip.AddrPort{})
			require.ErrorIs(t, err, ErrGateway)
		})
	}
}

func TestGatewayNames(t *testing.T) {
	g := gateway()
	require.Equal(t, "relay/default", g.ID())
	require.Empty(t, g.Org())
	g.Name = "orgs/relay/gateways/default"
	require.Equal(t, "org-relay/default", g.ID(), "no organisation can take the id of a gateway that serves all")
	require.Equal(t, "relay", g.Org())
	g.Name = "nonsense"
	require.Empty(t, g.ID())
}

func TestMappedAddressesBecomeOne(t *testing.T) {
	g := gateway()
	g.Listeners[0].RelayAddr = netip.MustParseAddr("::ffff:127.0.0.1")
	g.Peers[0].Addr = netip.MustParseAddr("::ffff:127.0.0.1")
	g.Health = netip.MustParseAddrPort("[::ffff:127.0.0.1]:8086")
	require.NoError(t, g.Check())
	require.Equal(t, gateway(), g)
}

func TestURLs(t *testing.T) {
	certPEM, keyPEM, _ := stacktest.Certificate(t)
	g := gateway()
	g.Listeners = []Listener{
		{Name: "tls", Protocol: TLS, Port: 5349, PublicHost: "turn.example.org", PublicPort: 443, RelayAddr: netip.MustParseAddr("127.0.0.1"), Cert: certPEM, Key: keyPEM},
		{Name: "tcp", Protocol: TCP, Port: 3478, PublicHost: "2001:db8::7", RelayAddr: netip.MustParseAddr("127.0.0.1")},
		{Name: "udp", Protocol: UDP, Port: 3478, RelayAddr: netip.MustParseAddr("127.0.0.1")},
	}
	require.NoError(t, g.Check())
	require.Equal(t, []string{
		"turn:127.0.0.1:3478?transport=udp",
		"turn:[2001:db8::7]:3478?transport=tcp",
		"turns:turn.example.org:443?transport=tcp",
	}, g.URLs(), "TLS comes last: it is the fallback")
	require.NotContains(t, g.Redacted().Listeners[0].Key, "PRIVATE")
	require.Contains(t, g.Listeners[0].Key, "PRIVATE", "redacting leaves the original alone")
}
