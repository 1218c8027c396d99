package turn

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/internal/keyring"
)

const secretOf32 = "0123456789abcdef0123456789abcdef"

func compile(t *testing.T, g Gateway, secret string) *Compiled {
	t.Helper()
	c, err := Compile(g, secret, netip.AddrPort{})
	require.NoError(t, err)
	return c
}

func TestCompileNamesExactlyTheSFU(t *testing.T) {
	g := gateway()
	g.Metrics = netip.MustParseAddrPort("127.0.0.1:8088")
	g.Peers = append(g.Peers, Peer{Addr: netip.MustParseAddr("127.0.0.2"), MinPort: 50000, MaxPort: 60000})
	c, err := Compile(g, secretOf32, netip.MustParseAddrPort("127.0.0.1:40123"))
	require.NoError(t, err)
	c, err = c.At(7)
	require.NoError(t, err)
	require.JSONEq(t, `{
		"version": "v1",
		"admin": {"name": "relay/default@7-`+c.Digest+`", "loglevel": "all:INFO", "metrics_endpoint": "http://127.0.0.1:8088/metrics",
			"healthcheck_endpoint": "http://127.0.0.1:8086", "offload_engine": "None"},
		"auth": {"type": "ephemeral", "realm": "relay.openova.io", "credentials": {"secret": "`+secretOf32+`"}},
		"listeners": [{"name": "udp", "protocol": "TURN-UDP", "address": "127.0.0.1", "port": 3478, "routes": ["sfu"]}],
		"clusters": [{"name": "sfu", "type": "STATIC", "protocol": "UDP",
			"endpoints": ["127.0.0.1:<40123-40123>", "127.0.0.1:<7882-7882>", "127.0.0.2:<50000-60000>"]}]
	}`, string(c.JSON))
	require.False(t, bytes.Contains(c.JSON, []byte("$")))
	require.Equal(t, int64(7), generationOf(c.ID, c.Version()))
}

func TestEqualContentHasOneDigest(t *testing.T) {
	g := gateway()
	g.Peers = append(g.Peers, Peer{Addr: netip.MustParseAddr("127.0.0.2"), MinPort: 50000, MaxPort: 60000})
	h := gateway()
	h.Peers = []Peer{g.Peers[1], {Addr: netip.MustParseAddr("::ffff:127.0.0.1"), MinPort: 7882, MaxPort: 7882}}
	a, b := compile(t, g, secretOf32), compile(t, h, secretOf32)
	require.Equal(t, a.Digest, b.Digest, "the order and the notation of peers say nothing")
	a2, err := a.At(1)
	require.NoError(t, err)
	b2, err := b.At(2)
	require.NoError(t, err)
	require.NotEqual(t, a2.Version(), b2.Version())
	require.Equal(t, "relay/default", a.Config.Admin.Name, "numbering leaves the original alone")
	h.Peers[0].MaxPort--
	require.NotEqual(t, a.Digest, compile(t, h, secretOf32).Digest)
}

func TestGenerationOf(t *testing.T) {
	for version, want := range map[string]int64{
		"relay/default@12-abcd": 12, "relay/default": 0, "relay/other@12-abcd": 0, "default-stunnerd": 0,
		"relay/default@x-abcd": 0, "relay/default@-3-abcd": 0, "": 0, "relay/default@": 0,
	} {
		require.Equal(t, want, generationOf("relay/default", version), version)
	}
}

func TestCompileRefusesWeakSecretAndBadEcho(t *testing.T) {
	_, err := Compile(gateway(), "short", netip.AddrPort{})
	require.ErrorContains(t, err, "at least 32")
	_, err = Compile(gateway(), secretOf32, netip.MustParseAddrPort("0.0.0.0:4000"))
	require.ErrorIs(t, err, ErrGateway)
}

func TestSecretIsPerGatewayAndEpoch(t *testing.T) {
	keys, err := keyring.New(bytes.Repeat([]byte{7}, 32))
	require.NoError(t, err)
	g := gateway()
	first := Secret(keys, &g)
	require.Len(t, first, 43)
	require.Equal(t, first, Secret(keys, &g))
	g.Epoch++
	require.NotEqual(t, first, Secret(keys, &g))
	g.Epoch, g.Name = 0, "orgs/relay/gateways/default"
	require.NotEqual(t, first, Secret(keys, &g))
}
