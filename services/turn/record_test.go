package turn

import (
	"bytes"
	"log/slog"
	"net/netip"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
	"github.com/openova-io/bp-relay/services/internal/keyring"
	"github.com/openova-io/bp-relay/services/records/postgres"
)

// Replicas configure one gateway at once, with different settings, as when a new
// configuration is rolled out: each records its own, one after another, and none
// ends because another one was faster.
func TestReplicasConfigureAGatewayAtOnce(t *testing.T) {
	st, err := postgres.Open(t.Context(), postgres.Config{URL: stacktest.Postgres(t).URL})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, st.Close()) })
	keys, err := keyring.New(bytes.Repeat([]byte{7}, 32))
	require.NoError(t, err)
	s, err := New(Config{Records: st, Keys: keys, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	const replicas = 8
	for round := range 5 {
		var all sync.WaitGroup
		generations := make([]int64, replicas)
		for i := range replicas {
			g := Gateway{
				Name:      "gateways/default",
				Listeners: []Listener{{Name: "udp", Protocol: UDP, Port: 3478, RelayAddr: netip.MustParseAddr("127.0.0.1")}},
				Peers:     []Peer{{Addr: netip.MustParseAddr("127.0.0.1"), MinPort: uint16(20000 + 10*round + i), MaxPort: 30000}},
				Health:    netip.MustParseAddrPort("127.0.0.1:8086"),
			}
			require.NoError(t, g.Check())
			c, err := s.compile(g)
			require.NoError(t, err)
			all.Go(func() {
				n, err := s.record(t.Context(), &g, c)
				if err != nil {
					t.Error(err)
				}
				generations[i] = n
			})
		}
		all.Wait()
		seen := map[int64]bool{}
		for _, n := range generations {
			require.Positive(t, n)
			require.False(t, seen[n], "two configurations have one generation")
			seen[n] = true
		}
	}
}
