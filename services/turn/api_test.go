package turn_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"

	turnv1 "github.com/openova-io/bp-relay/gen/relay/turn/v1"
	"github.com/openova-io/bp-relay/services/dev/issuer"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/rpc"
	"github.com/openova-io/bp-relay/services/turn"
)

// client serves the API behind the real interceptors and a real issuer.
func client(t *testing.T, s *turn.Service) (turnv1.TurnServiceClient, func(org string, roles ...string) context.Context) {
	t.Helper()
	mux := http.NewServeMux()
	web := httptest.NewServer(mux)
	t.Cleanup(func() {
		web.Close()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
	iss, err := issuer.New(web.URL+"/realm", filepath.Join(t.TempDir(), "issuer.pem"))
	require.NoError(t, err)
	iss.Routes(mux, "/realm")
	verifier, err := auth.NewVerifier(auth.OIDCConfig{Issuer: web.URL + "/realm", Audience: "relay", Client: web.Client()}, nil)
	require.NoError(t, err)
	policy, err := auth.NewPolicy(auth.DefaultRoles(), turnv1.TurnService_ServiceDesc.ServiceName)
	require.NoError(t, err)
	srv, err := rpc.NewServer(rpc.Config{Verifier: verifier, Policy: policy, Logger: quiet()})
	require.NoError(t, err)
	s.Register(srv)
	lis := bufconn.Listen(1 << 20)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(lis) }()
	t.Cleanup(func() {
		srv.Stop()
		require.NoError(t, <-done)
	})
	conn, err := grpc.NewClient("passthrough:///turn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return turnv1.NewTurnServiceClient(conn), func(org string, roles ...string) context.Context {
		token, err := iss.Token(issuer.Claims{Subject: "backend-1", Org: org, Roles: roles, Audience: "relay", TTL: time.Minute})
		require.NoError(t, err)
		return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
	}
}

func fails(t *testing.T, err error, code codes.Code, reason string) {
	t.Helper()
	require.Equal(t, code, status.Code(err), "%v", err)
	require.Equal(t, reason, apierr.ReasonOf(err))
}

func TestAPI(t *testing.T) {
	r := newRig(t)
	r.serve()
	api, as := client(t, r.service)
	acme := as("acme", "relay-backend")

	_, err := api.MintIceServers(acme, &turnv1.MintIceServersRequest{Parent: "orgs/acme"})
	fails(t, err, codes.Unavailable, "GATEWAY_UNHEALTHY")
	got, err := api.GetGateway(acme, &turnv1.GetGatewayRequest{Name: "orgs/acme/gateways/default"})
	require.NoError(t, err)
	require.Equal(t, turnv1.Gateway_STATE_PENDING, got.GetGateway().GetState())
	require.NotEmpty(t, got.GetGateway().GetProbeError())
	require.Nil(t, got.GetGateway().GetProbeTime())

	r.start()
	r.apply(false)
	list, err := api.ListGateways(acme, &turnv1.ListGatewaysRequest{Parent: "orgs/acme"})
	require.NoError(t, err)
	require.Len(t, list.GetGateways(), 1)
	require.Empty(t, list.GetNextPageToken())
	g := list.GetGateways()[0]
	require.Equal(t, "orgs/acme/gateways/default", g.GetName())
	require.Equal(t, turnv1.Gateway_STATE_HEALTHY, g.GetState())
	require.Equal(t, int64(1), g.GetServedGeneration())
	require.Equal(t, int64(1), g.GetAppliedGeneration())
	require.WithinDuration(t, time.Now(), g.GetProbeTime().AsTime(), time.Minute)
	require.Empty(t, g.GetProbeError())
	require.Len(t, g.GetPeers(), 1)
	l := g.GetListeners()[0]
	require.Equal(t, turnv1.Listener_PROTOCOL_UDP, l.GetProtocol())
	require.Equal(t, int32(r.gateway.Listeners[0].Port), l.GetPort())

	mint, err := api.MintIceServers(acme, &turnv1.MintIceServersRequest{Parent: "orgs/acme", Ttl: durationpb.New(2 * time.Minute)})
	require.NoError(t, err)
	require.Len(t, mint.GetIceServers(), 1)
	ice := mint.GetIceServers()[0]
	require.WithinDuration(t, time.Now().Add(2*time.Minute), mint.GetExpireTime().AsTime(), 2*time.Second)
	require.True(t, strings.HasSuffix(ice.GetUsername(), ":"+mint.GetCredentialId()))
	_, err = dial(t, ice.GetUrls()[0], ice.GetUsername(), ice.GetCredential(), nil)
	require.NoError(t, err)
	again, err := api.MintIceServers(acme, &turnv1.MintIceServersRequest{Parent: "orgs/acme"})
	require.NoError(t, err)
	require.NotEqual(t, mint.GetCredentialId(), again.GetCredentialId(), "each answer is a fresh one")

	for ttl, reason := range map[time.Duration]string{time.Second: "FIELD_INVALID", 25 * time.Hour: "FIELD_INVALID", -time.Minute: "FIELD_INVALID"} {
		_, err = api.MintIceServers(acme, &turnv1.MintIceServersRequest{Parent: "orgs/acme", Ttl: durationpb.New(ttl)})
		fails(t, err, codes.InvalidArgument, reason)
	}
	_, err = api.MintIceServers(acme, &turnv1.MintIceServersRequest{Parent: "orgs/other"})
	fails(t, err, codes.PermissionDenied, "OTHER_ORGANISATION")
	_, err = api.MintIceServers(as("acme", "relay-auditor"), &turnv1.MintIceServersRequest{Parent: "orgs/acme"})
	fails(t, err, codes.PermissionDenied, "PERMISSION_MISSING")
	_, err = api.GetGateway(acme, &turnv1.GetGatewayRequest{Name: "orgs/acme/gateways/none"})
	fails(t, err, codes.NotFound, "GATEWAY_NOT_FOUND")
	_, err = api.ListGateways(acme, &turnv1.ListGatewaysRequest{Parent: "orgs/acme", PageToken: "x"})
	fails(t, err, codes.InvalidArgument, "PAGE_TOKEN_INVALID")
}

// TestWhoSeesWhichGateway: an organisation sees its own gateways and those that
// serve every organisation, of one id its own only, and no other's. No data plane
// runs.
func TestWhoSeesWhichGateway(t *testing.T) {
	r := newRig(t)
	for _, name := range []string{"orgs/acme/gateways/default", "orgs/acme/gateways/eu-1", "orgs/other/gateways/secret", "gateways/zz"} {
		g := r.gateway
		g.Name = name
		r.cfg.Gateways = append(r.cfg.Gateways, g)
	}
	r.cfg.Gateways = append(r.cfg.Gateways, r.gateway)
	s, err := turn.New(r.cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	api, as := client(t, s)
	names := func(org string, size int32) (out []string) {
		for token := ""; ; {
			page, err := api.ListGateways(as(org, "relay-backend"), &turnv1.ListGatewaysRequest{Parent: "orgs/" + org, PageSize: size, PageToken: token})
			require.NoError(t, err)
			for _, g := range page.GetGateways() {
				out = append(out, g.GetName())
			}
			if token = page.GetNextPageToken(); token == "" {
				return out
			}
		}
	}
	acme := []string{"orgs/acme/gateways/default", "orgs/acme/gateways/eu-1", "orgs/acme/gateways/zz"}
	require.Equal(t, acme, names("acme", 0))
	require.Equal(t, acme, names("acme", 1))
	require.Equal(t, acme, names("acme", 3))
	require.Equal(t, []string{"orgs/third/gateways/default", "orgs/third/gateways/zz"}, names("third", 2))
	_, err = api.GetGateway(as("third", "relay-backend"), &turnv1.GetGatewayRequest{Name: "orgs/third/gateways/secret"})
	fails(t, err, codes.NotFound, "GATEWAY_NOT_FOUND")
	_, err = api.GetGateway(as("third", "relay-backend"), &turnv1.GetGatewayRequest{Name: "orgs/other/gateways/secret"})
	fails(t, err, codes.PermissionDenied, "OTHER_ORGANISATION")
}

func TestNewRefuses(t *testing.T) {
	r := newRig(t)
	r.cfg.Gateways = []turn.Gateway{r.gateway, r.gateway}
	_, err := turn.New(r.cfg)
	require.ErrorIs(t, err, turn.ErrGateway)
	bad := r.gateway
	bad.Peers = nil
	r.cfg.Gateways = []turn.Gateway{bad}
	_, err = turn.New(r.cfg)
	require.ErrorIs(t, err, turn.ErrGateway)
	r.cfg.Gateways, r.cfg.Discovery = nil, "0.0.0.0:0"
	_, err = turn.New(r.cfg)
	require.ErrorContains(t, err, "loopback")
}

// BenchmarkMint measures minting with its leaves, many callers at once.
func BenchmarkMint(b *testing.B) {
	r := newRig(b)
	r.serve()
	r.start()
	r.apply(false)
	b.SetParallelism(64)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := r.service.Mint(context.Background(), "acme", "tester", 0); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "mints/s")
}
