package turn_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	stnrv1 "github.com/l7mp/stunner/pkg/apis/v1"
	"github.com/pion/stun/v3"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
	"github.com/openova-io/bp-relay/services/format/leaf"
	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/turn"
	"github.com/openova-io/bp-relay/services/turn/cds"
	"github.com/openova-io/bp-relay/services/turn/dataplane"
	"github.com/openova-io/bp-relay/services/turn/probe"
)

func TestMain(m *testing.M) {
	// The token cache of internal/auth has a goroutine that cannot be stopped.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/hashicorp/golang-lru/v2/expirable.NewLRU[...].func1"))
}

// TestGateway: a configuration reaches a real stunnerd and is probed; then
// clients with a credential, and no others, reach the allowed peers, and no
// others, over UDP, TCP and TLS.
func TestGateway(t *testing.T) {
	certPEM, keyPEM, roots := stacktest.Certificate(t)
	r := newRig(t, func(r *rig) {
		r.cfg.Roots = roots
		r.gateway.Listeners = append(r.gateway.Listeners,
			turn.Listener{Name: "tcp", Protocol: turn.TCP, Port: r.port(), RelayAddr: loopback},
			turn.Listener{Name: "tls", Protocol: turn.TLS, Port: r.port(), RelayAddr: loopback, Cert: certPEM, Key: keyPEM})
	})
	sfu := echoServer(t, "127.0.0.1")
	outside := echoServer(t, "127.0.0.1")
	elsewhere := echoServer(t, "127.0.0.9")
	r.gateway.Peers[0] = turn.Peer{Addr: loopback, MinPort: sfu.port(), MaxPort: sfu.port()}
	r.serve()
	_, err := r.service.Mint(context.Background(), "acme", "tester", 0)
	require.ErrorIs(t, err, turn.ErrUnhealthy, "nothing is handed out before a data plane runs it")
	require.ErrorContains(t, err, "PENDING")
	r.start()
	_, h := r.apply(false)
	require.Equal(t, int64(1), h.Served)
	require.Equal(t, 1, h.Watchers)
	var want []string
	for _, l := range []string{"udp", "tcp", "tls"} {
		for _, step := range []string{"allocate", "permit", "deny", "echo", "channel"} {
			want = append(want, l+":"+step)
		}
	}
	require.Equal(t, want, h.Steps)

	got := r.mint()
	ice := got.Servers[0]
	require.Len(t, ice.URLs, 3)
	require.Equal(t, fmt.Sprintf("%d:%s", got.Expires.Unix(), got.CredentialID), ice.Username)
	for _, url := range ice.URLs {
		t.Run(url, func(t *testing.T) {
			c, err := dial(t, url, ice.Username, ice.Credential, roots)
			require.NoError(t, err)
			require.NoError(t, c.ping(sfu.addr(), 5*time.Second), "the SFU is reached")
			before := outside.seen.Load()
			require.Error(t, c.ping(outside.addr(), 500*time.Millisecond), "the SFU's host, another port")
			require.Equal(t, before, outside.seen.Load(), "nothing got there")
			require.Error(t, c.client.CreatePermission(elsewhere.addr()), "another host")
			require.Error(t, c.ping(elsewhere.addr(), 500*time.Millisecond))
			require.Zero(t, elsewhere.seen.Load())
			require.NoError(t, c.ping(sfu.addr(), 5*time.Second), "the SFU still is")

			secret := turn.Secret(r.keys, &r.gateway)
			old := turn.Sign(secret, got.CredentialID, time.Now().Add(-2*time.Second))
			for name, cred := range map[string][2]string{
				"expired":           {old.Username, old.Password},
				"altered password":  {ice.Username, "x" + ice.Credential[1:]},
				"prolonged by hand": {"9" + ice.Username, ice.Credential},
				"other secret":      {ice.Username, turn.Sign(secret+"x", got.CredentialID, got.Expires).Password},
				"empty":             {"", ""},
			} {
				var refused *stun.TurnError
				_, err := dial(t, url, cred[0], cred[1], roots)
				require.ErrorAs(t, err, &refused, name)
				require.Contains(t, []stun.ErrorCode{stun.CodeBadRequest, stun.CodeUnauthorized}, refused.ErrorCodeAttr.Code, name)
			}
		})
	}

	status, err := dataplane.New(r.gateway.Health)
	require.NoError(t, err)
	defer status.Close()
	st, err := status.Status(context.Background())
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"udp", "tcp", "tls"}, st.Listeners)
	res, err := http.Get("http://" + r.gateway.Metrics.String() + "/metrics")
	require.NoError(t, err)
	defer res.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Regexp(t, `stunner_cluster_bytes_total\{[^}]*name="sfu"`, string(text))
	evidence(t, r, got)
}

// evidence: the configuration has one row, one event and one leaf, the minting a
// leaf that names the credential; none of them has a secret.
func evidence(t *testing.T, r *rig, got turn.IceServers) {
	ctx := context.Background()
	leaves, err := r.records.Log().LeavesOf(ctx, "_operator", "gateways/default", -1, 10)
	require.NoError(t, err)
	require.Len(t, leaves, 1)
	body, open, err := leaf.Open(leaves[0].Body, leaves[0].Opening)
	require.NoError(t, err)
	require.Equal(t, "turn.gateway_configured", body.Type)
	require.Equal(t, "relay", open.Actor)
	minted, err := r.records.Log().LeavesOf(ctx, "acme", "orgs/acme/iceServers", -1, 10)
	require.NoError(t, err)
	require.Len(t, minted, 1)
	body, open, err = leaf.Open(minted[0].Body, minted[0].Opening)
	require.NoError(t, err)
	require.Equal(t, "turn.credentials_minted", body.Type)
	require.Equal(t, "tester", open.Actor)
	require.Contains(t, string(open.Detail), got.CredentialID)
	require.NotContains(t, body.Commit+string(minted[0].Body), got.CredentialID, "the tree holds the commitment only")
	var row records.Record
	require.NoError(t, r.records.View(ctx, func(tx records.Tx) error {
		row, err = tx.Get(ctx, records.Gateways, "gateways/default")
		return err
	}))
	secret := turn.Secret(r.keys, &r.gateway)
	for _, held := range [][]byte{row.Body, leaves[0].Opening, minted[0].Opening} {
		require.NotContains(t, string(held), secret)
		require.NotContains(t, string(held), "PRIVATE KEY")
		require.NotContains(t, string(held), got.Servers[0].Credential)
	}
}

// TestChangeWithoutRestart: a peer is added during a live allocation; a change
// that would stop the allocation is refused unless forced.
func TestChangeWithoutRestart(t *testing.T) {
	r := newRig(t)
	r.serve()
	r.start()
	_, h := r.apply(false)
	ice := r.mint().Servers[0]
	live, err := dial(t, ice.URLs[0], ice.Username, ice.Credential, nil)
	require.NoError(t, err)
	second := echoServer(t, "127.0.0.3")
	require.Error(t, live.client.CreatePermission(second.addr()))

	r.gateway.Peers = append(r.gateway.Peers, turn.Peer{Addr: netip.MustParseAddr("127.0.0.3"), MinPort: second.port(), MaxPort: second.port()})
	impact, after := r.apply(false)
	require.Equal(t, turn.Impact{Changed: true}, impact)
	require.Equal(t, h.Served+1, after.Applied)
	require.NoError(t, live.ping(second.addr(), 5*time.Second), "the allocation of before reaches the new peer")

	again, same := r.apply(false)
	require.False(t, again.Changed)
	require.Equal(t, after.Served, same.Served, "what is equal is not a new generation")

	// Remove the SFU's address during a live call.
	r.gateway.Peers = r.gateway.Peers[:1]
	impact, _, err = r.try(false, time.Second)
	require.ErrorIs(t, err, turn.ErrDestructive)
	require.Len(t, impact.Cut, 1)
	require.NoError(t, live.ping(second.addr(), 5*time.Second), "a refused change changes nothing")
	impact, _ = r.apply(true)
	require.Len(t, impact.Cut, 1)
	require.Error(t, live.ping(second.addr(), 500*time.Millisecond), "cut with the next packet")
	first := net.UDPAddrFromAddrPort(netip.AddrPortFrom(r.gateway.Peers[0].Addr, r.gateway.Peers[0].MinPort))
	require.NoError(t, live.ping(first, 5*time.Second), "the others go on")

	// With another port the listener restarts.
	r.gateway.Listeners[0].Port = r.port()
	_, _, err = r.try(false, time.Second)
	require.ErrorIs(t, err, turn.ErrDestructive)
	impact, _ = r.apply(true)
	require.Equal(t, []string{"udp"}, impact.Dropped)
	require.Error(t, live.ping(first, 500*time.Millisecond), "the old listener has ended, as Impact stated")
	ice = r.mint().Servers[0]
	_, err = dial(t, ice.URLs[0], ice.Username, ice.Credential, nil)
	require.NoError(t, err)

	// In another epoch earlier credentials are refused.
	r.gateway.Epoch++
	impact, _ = r.apply(true)
	require.Equal(t, turn.Impact{Changed: true, Lapses: true}, impact)
	var refused *stun.TurnError
	_, err = dial(t, ice.URLs[0], ice.Username, ice.Credential, nil)
	require.ErrorAs(t, err, &refused)
	ice = r.mint().Servers[0]
	_, err = dial(t, ice.URLs[0], ice.Username, ice.Credential, nil)
	require.NoError(t, err)
}

// TestDiscoveryAwayAndBack: relay stops and the data plane keeps its
// configuration; relay starts again, finds the data plane, and drops nothing.
func TestDiscoveryAwayAndBack(t *testing.T) {
	r := newRig(t)
	r.serve()
	r.start()
	_, h := r.apply(false)
	ice := r.mint().Servers[0]
	peer := net.UDPAddrFromAddrPort(netip.AddrPortFrom(r.gateway.Peers[0].Addr, r.gateway.Peers[0].MinPort))
	live, err := dial(t, ice.URLs[0], ice.Username, ice.Credential, nil)
	require.NoError(t, err)
	require.NoError(t, live.ping(peer, 5*time.Second))
	r.stop()
	require.NoError(t, live.ping(peer, 5*time.Second), "live media does not need us")
	fresh, err := dial(t, ice.URLs[0], ice.Username, ice.Credential, nil)
	require.NoError(t, err, "nor does a new allocation")
	require.NoError(t, fresh.ping(peer, 5*time.Second))

	r.serve()
	_, back := r.apply(false)
	require.Equal(t, h.Served, back.Served, "the same configuration is the same generation")
	require.Eventually(t, func() bool {
		now, ok := r.service.Health("gateways/default")
		return ok && now.Watchers == 1
	}, 10*time.Second, 20*time.Millisecond, "stunnerd connects again")
	require.NoError(t, live.ping(peer, 5*time.Second), "the same configuration again drops nothing")

	// A change made now arrives.
	r.gateway.Peers = append(r.gateway.Peers, turn.Peer{Addr: netip.MustParseAddr("127.0.0.4"), MinPort: 5000, MaxPort: 6000})
	_, now := r.apply(false)
	require.Equal(t, h.Served+1, now.Applied)
	require.NoError(t, live.ping(peer, 5*time.Second))
}

// TestDataPlaneDies: a gateway is not handed out while its data plane is down.
func TestDataPlaneDies(t *testing.T) {
	r := newRig(t)
	r.serve()
	r.start()
	r.apply(false)
	r.mint()
	r.kill()
	require.Eventually(t, func() bool {
		_, err := r.service.Mint(context.Background(), "acme", "tester", 0)
		return err != nil
	}, 10*time.Second, 50*time.Millisecond)
	h, ok := r.service.Health("gateways/default")
	require.True(t, ok)
	require.Equal(t, turn.Pending, h.State)
	require.Zero(t, h.Applied)
	require.Contains(t, h.Problem, "health endpoint does not answer")
	r.start()
	r.apply(false)
	r.mint()
}

// TestListenerThatCannotStart: stunnerd cannot bind the port and rolls back; the
// gateway is not handed out, and its state says why.
func TestListenerThatCannotStart(t *testing.T) {
	taken, err := net.ListenPacket("udp", ":0")
	require.NoError(t, err)
	defer taken.Close()
	r := newRig(t)
	r.serve()
	r.start()
	r.apply(false)
	good := r.gateway
	bad := good
	bad.Listeners = []turn.Listener{good.Listeners[0], {Name: "alt", Protocol: turn.UDP, Port: uint16(taken.LocalAddr().(*net.UDPAddr).Port), RelayAddr: loopback}}
	r.gateway = bad
	_, h, err := r.try(false, 4*time.Second)
	require.ErrorIs(t, err, turn.ErrUnhealthy)
	require.Equal(t, turn.Pending, h.State)
	require.Equal(t, int64(2), h.Served)
	// For a moment stunnerd reports the new configuration. A check at that moment
	// probes it, and waits for an answer from the occupied port.
	require.Eventually(t, func() bool {
		h, _ = r.service.Health("gateways/default")
		return strings.Contains(h.Problem, "could not apply it")
	}, 20*time.Second, 50*time.Millisecond, "%+v", &h)
	require.Equal(t, turn.Pending, h.State)
	require.Equal(t, int64(1), h.Applied, "stunnerd went back to what ran")
	_, err = r.service.Mint(context.Background(), "acme", "tester", 0)
	require.ErrorIs(t, err, turn.ErrUnhealthy)
	r.gateway = good
	r.apply(true)
	r.mint()
}

// TestProbeFindsOpenRelay: the probe detects a data plane that lets clients reach
// any address.
func TestProbeFindsOpenRelay(t *testing.T) {
	r := newRig(t)
	secret := turn.Secret(r.keys, &r.gateway)
	c, err := turn.Compile(r.gateway, secret, netip.AddrPort{})
	require.NoError(t, err)
	open := c.Config.DeepCopy()
	open.Clusters = []stnrv1.ClusterConfig{{Name: "sfu", Type: "STATIC", Endpoints: []string{"0.0.0.0/0"}}}
	raw, err := json.Marshal(open)
	require.NoError(t, err)
	r.cfg.Discovery, r.cfg.Echo = "", netip.AddrPort{}
	r.service, err = turn.New(r.cfg) // for its address only
	require.NoError(t, err)
	require.NoError(t, r.service.Close())
	srv, err := cds.New(cds.Config{Listen: r.service.Origin()[len("http://"):], Logger: quiet()})
	require.NoError(t, err)
	srv.Set(c.ID, "open", raw)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })
	r.start()
	client, err := dataplane.New(r.gateway.Health)
	require.NoError(t, err)
	defer client.Close()
	require.Eventually(t, func() bool {
		st, err := client.Status(ctx)
		return err == nil && st.Ready
	}, 20*time.Second, 50*time.Millisecond)
	id, err := turn.NewID()
	require.NoError(t, err)
	cred := turn.Sign(secret, id, time.Now().Add(time.Minute))
	within, end := context.WithTimeout(ctx, 10*time.Second)
	defer end()
	res, err := probe.Run(within, probe.Target{Protocol: probe.UDP, Username: cred.Username, Password: cred.Password,
		Addr: fmt.Sprintf("127.0.0.1:%d", r.gateway.Listeners[0].Port), Relay: loopback, Peers: []netip.Addr{loopback}})
	require.ErrorIs(t, err, probe.ErrOpen)
	require.Equal(t, []string{"allocate", "permit"}, res.Steps)

	_, err = probe.Run(within, probe.Target{Protocol: probe.UDP, Username: cred.Username, Password: cred.Password,
		Addr: fmt.Sprintf("127.0.0.1:%d", r.gateway.Listeners[0].Port), Relay: netip.MustParseAddr("192.0.2.3")})
	require.ErrorIs(t, err, probe.ErrAllocate, "another relayed address than the configured one")
}
