package app

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/connection/address"
)

func TestTargetsAreRead(t *testing.T) {
	c, err := load(t, `
targets: {allow: [127.0.0.1, "10.0.0.5:22"], orgs: {acme: [10.0.0.0/8], nobody: []}}
records: {postgres: "postgres://relay:secret@db.example.org/relay"}
bus: {redis: "redis://cache.example.org:6380"}
`)
	require.NoError(t, err)
	r, err := c.addresses()
	require.NoError(t, err)
	require.Equal(t, []address.Exception{
		{Prefix: netip.MustParsePrefix("127.0.0.1/32")}, {Prefix: netip.MustParsePrefix("10.0.0.5/32"), Port: 22},
	}, r.Allow)
	require.Equal(t, map[string][]netip.Prefix{"acme": {netip.MustParsePrefix("10.0.0.0/8")}, "nobody": {}}, r.Orgs)
	require.Subset(t, r.Own, []string{"db.example.org:5432", "cache.example.org:6380", c.Guacd.Address, c.Listen.Admin})

	for key, bad := range map[string]string{
		"targets.allow":     `targets: {allow: [localhost]}`,
		"targets.orgs.acme": `targets: {orgs: {acme: ["10.0.0.1:22"]}}`,
		"guacd.ssh":         `guacd: {ssh: newest}`,
		"sessions.person":   `sessions: {person: 0}`,
	} {
		c, err := load(t, bad)
		require.NoError(t, err)
		require.ErrorContains(t, c.Check(), key)
	}
}
