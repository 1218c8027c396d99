package turn_test

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	turnv1 "github.com/openova-io/bp-relay/gen/relay/turn/v1"

	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/turn"
)

// stunnerd v1.2.1 is told how many allocations one credential may have, says so in
// its status, and does not enforce it: its quota handler is a stub
// (handlers.go, quotaHandlerStub). When a newer one refuses the second
// allocation, this fails: then docs/turn.md and README have a limit less.
func TestStunnerdDoesNotEnforceItsQuota(t *testing.T) {
	r := newRig(t, func(r *rig) { r.gateway.UserQuota = 1 })
	r.serve()
	r.start()
	r.apply(false)
	s := r.mint().Servers[0]
	for range 2 {
		_, err := dial(t, s.URLs[0], s.Username, s.Credential, nil)
		require.NoError(t, err)
	}
	resp, err := http.Get("http://" + r.gateway.Health.String() + "/status")
	require.NoError(t, err)
	defer resp.Body.Close()
	status, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Contains(t, string(status), `"quota":"1"`)
}

// One caller of MintIceServers gets so many credentials in a minute and no more;
// another one notices nothing, and calls of relay's services are counted
// elsewhere.
func TestMintsAreBounded(t *testing.T) {
	r := newRig(t, func(r *rig) { r.cfg.Mints = 3 })
	r.serve()
	r.start()
	r.apply(false)
	var server turnv1.TurnServiceServer
	r.service.Register(registrar(func(impl any) { server = impl.(turnv1.TurnServiceServer) }))
	mint := func(who auth.Principal) error {
		_, err := server.MintIceServers(auth.With(t.Context(), who), &turnv1.MintIceServersRequest{Parent: "orgs/acme"})
		return err
	}
	ann := auth.Principal{Subject: "ann", Org: "acme"}
	for range 3 {
		require.NoError(t, mint(ann))
	}
	e := apierr.FromDomain(mint(ann))
	require.NotNil(t, e)
	require.Equal(t, "RATE_LIMITED", apierr.ReasonName(e.Reason()))
	require.NoError(t, mint(auth.Principal{Subject: "ben", Org: "acme"}))
	for range 5 {
		require.NoError(t, mint(auth.Principal{Subject: "service:room", Org: "acme", Service: true}))
	}
	_, err := turn.CheckTTL(turn.MaxTTL + time.Second)
	require.Error(t, err, "and none for more than a day")
}

// registrar gives a test the service's implementation.
type registrar func(impl any)

func (f registrar) RegisterService(_ *grpc.ServiceDesc, impl any) { f(impl) }
