package turn

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"
	turnv1 "github.com/openova-io/bp-relay/gen/relay/turn/v1"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/resource"
)

// Register adds relay.turn.v1.TurnService to a server, whose interceptors check
// token, permission, organisation and field rules.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	turnv1.RegisterTurnServiceServer(r, &api{s: s})
}

// api translates between the proto and the service.
type api struct {
	turnv1.UnimplementedTurnServiceServer
	s *Service
}

func (a *api) GetGateway(_ context.Context, req *turnv1.GetGatewayRequest) (*turnv1.GetGatewayResponse, error) {
	org, id, err := gateways().Parse(req.GetName())
	if err != nil {
		return nil, gateways().NotFound(req.GetName())
	}
	for _, p := range a.s.serving(org) {
		if p.id() == id {
			return &turnv1.GetGatewayResponse{Gateway: p.proto(org)}, nil
		}
	}
	return nil, gateways().NotFound(req.GetName())
}

func (a *api) ListGateways(_ context.Context, req *turnv1.ListGatewaysRequest) (*turnv1.ListGatewaysResponse, error) {
	after, err := resource.PageAfter(req.GetParent(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	size := resource.PageSize(req.GetPageSize())
	org := resource.Org(req.GetParent())
	out, last := &turnv1.ListGatewaysResponse{}, ""
	for _, p := range a.s.serving(org) {
		if p.id() <= after {
			continue
		}
		if len(out.Gateways) == size {
			out.NextPageToken = resource.PageToken(req.GetParent(), last)
			break
		}
		out.Gateways, last = append(out.Gateways, p.proto(org)), p.id()
	}
	return out, nil
}

func (a *api) MintIceServers(ctx context.Context, req *turnv1.MintIceServersRequest) (*turnv1.MintIceServersResponse, error) {
	who, org, ttl := auth.From(ctx), resource.Org(req.GetParent()), req.GetTtl().AsDuration()
	var got IceServers
	var err error
	if who.Service {
		// The calling relay service records the credential's id itself, in the
		// leaf of what the credential is for: one leaf, one commit.
		got, _, err = a.s.mint(org, who.Subject, ttl)
	} else if wait := a.s.minters.Take(minter{org, who.Subject}); wait > 0 {
		return nil, apierr.New(codes.ResourceExhausted, errorsv1.Reason_REASON_RATE_LIMITED,
			"you mint too many credentials; use those that you have until they expire, and wait as RetryInfo says", "limit", "credentials").WithRetry(wait)
	} else {
		got, err = a.s.Mint(ctx, org, who.Subject, ttl)
	}
	if err != nil {
		return nil, apiError(err)
	}
	out := &turnv1.MintIceServersResponse{ExpireTime: timestamppb.New(got.Expires), CredentialId: got.CredentialID}
	for _, i := range got.Servers {
		out.IceServers = append(out.IceServers, &turnv1.IceServer{Urls: i.URLs, Username: i.Username, Credential: i.Credential})
	}
	return out, nil
}

// apiError maps the service's own errors to reasons; apierr.FromDomain maps the
// others.
func apiError(err error) error {
	var closed *UnhealthyError
	var field *FieldError
	switch {
	case errors.As(err, &closed):
		return apierr.New(codes.Unavailable, errorsv1.Reason_REASON_GATEWAY_UNHEALTHY,
			"no TURN gateway can be handed out now; list the gateways to see their states and try again",
			"gateways", strings.Join(closed.Problems, "; ")).WithRetry(probeSoon).Because(err)
	case errors.As(err, &field):
		return apierr.Field(field.Field, field.Problem)
	case errors.Is(err, errStopping):
		return apierr.New(codes.Unavailable, errorsv1.Reason_REASON_STOPPING,
			"this replica is stopping; try again").Because(err)
	}
	return err
}

// proto is the gateway as an organisation sees it: a gateway that serves every
// organisation has a name in each.
func (p *plane) proto(org string) *turnv1.Gateway {
	g, h := p.snapshot()
	out := &turnv1.Gateway{
		Name:              gateways().Name(org, p.id()),
		State:             map[State]turnv1.Gateway_State{Pending: turnv1.Gateway_STATE_PENDING, Healthy: turnv1.Gateway_STATE_HEALTHY, Unhealthy: turnv1.Gateway_STATE_UNHEALTHY}[h.State],
		ServedGeneration:  h.Served,
		AppliedGeneration: h.Applied,
		ProbeError:        h.Problem,
	}
	if !h.ProbeTime.IsZero() {
		out.ProbeTime = timestamppb.New(h.ProbeTime)
	}
	for i := range g.Listeners {
		l := &g.Listeners[i]
		host, port := l.dial()
		protocol := map[Protocol]turnv1.Listener_Protocol{UDP: turnv1.Listener_PROTOCOL_UDP, TCP: turnv1.Listener_PROTOCOL_TCP, TLS: turnv1.Listener_PROTOCOL_TLS}[l.Protocol]
		out.Listeners = append(out.Listeners, &turnv1.Listener{Protocol: protocol, Address: host, Port: int32(port)})
	}
	for _, peer := range g.Peers {
		out.Peers = append(out.Peers, peer.String())
	}
	return out
}
