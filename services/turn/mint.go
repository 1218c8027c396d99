package turn

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// ErrUnhealthy: no gateway that the organisation may use is healthy. The
// error is an *UnhealthyError.
var ErrUnhealthy = errors.New("turn: no gateway is healthy")

// UnhealthyError says of each gateway why it is not handed out.
type UnhealthyError struct{ Problems []string }

func (e *UnhealthyError) Error() string {
	if len(e.Problems) == 0 {
		return "turn: no gateway is configured"
	}
	return ErrUnhealthy.Error() + ": " + strings.Join(e.Problems, "; ")
}

// Unwrap makes every UnhealthyError an ErrUnhealthy.
func (e *UnhealthyError) Unwrap() error { return ErrUnhealthy }

// IceServer is one entry of RTCConfiguration.iceServers.
type IceServer struct {
	URLs       []string
	Username   string
	Credential string
}

// IceServers are what one participant gets.
type IceServers struct {
	Servers      []IceServer
	CredentialID string
	Expires      time.Time
}

// Mint makes ICE servers for one participant over every healthy gateway that
// serves the organisation; actor is who asked. It returns once the evidence
// of it is durable. A ttl of 0 is DefaultTTL; one out of bounds is a
// *FieldError. ErrUnhealthy where there is no healthy gateway.
func (s *Service) Mint(ctx context.Context, org, actor string, ttl time.Duration) (IceServers, error) {
	out, act, err := s.mint(org, actor, ttl)
	if err != nil {
		return IceServers{}, err
	}
	if err := s.ledger.record(ctx, act); err != nil {
		return IceServers{}, err
	}
	return out, nil
}

// mint makes the ICE servers, and what is to be entered of it before they are
// given away.
func (s *Service) mint(org, actor string, ttl time.Duration) (IceServers, minted, error) {
	ttl, err := CheckTTL(ttl)
	if err != nil {
		return IceServers{}, minted{}, err
	}
	id, err := NewID()
	if err != nil {
		return IceServers{}, minted{}, fmt.Errorf("turn: credential id: %w", err)
	}
	now := time.Now().UTC()
	out := IceServers{CredentialID: id, Expires: now.Add(ttl).Truncate(time.Second)}
	act := minted{org: org, actor: actor, at: now, Credential: id, Expires: out.Expires}
	var closed UnhealthyError
	for _, p := range s.serving(org) {
		h := p.open.Load()
		if h == nil {
			_, health := p.snapshot()
			closed.Problems = append(closed.Problems, p.describe(health))
			continue
		}
		c := Sign(h.secret, id, out.Expires)
		out.Servers = append(out.Servers, IceServer{URLs: h.urls, Username: c.Username, Credential: c.Password})
		act.Gateways = append(act.Gateways, p.name)
	}
	if len(out.Servers) == 0 {
		return IceServers{}, minted{}, &closed
	}
	return out, act, nil
}

// serving returns the gateways of an organisation in the order of their ids:
// its own, and those that serve all where it has none of that id.
func (s *Service) serving(org string) []*plane {
	byID := map[string]*plane{}
	for name, p := range s.planes {
		if id, ok := strings.CutPrefix(name, "gateways/"); ok && byID[id] == nil {
			byID[id] = p
		}
		if id, ok := strings.CutPrefix(name, "orgs/"+org+"/gateways/"); ok {
			byID[id] = p
		}
	}
	var out []*plane
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		out = append(out, byID[id])
	}
	return out
}
