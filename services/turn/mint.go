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

// ErrUnhealthy: no gateway of the organisation is healthy. Every *UnhealthyError
// is one.
var ErrUnhealthy = errors.New("turn: no gateway is healthy")

// UnhealthyError states for each gateway why it is not handed out; no problems
// means that no gateway is configured.
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

// IceServers is what one participant gets.
type IceServers struct {
	Servers      []IceServer
	CredentialID string
	Expires      time.Time
}

// Mint makes ICE servers for one participant, one for each healthy gateway that
// serves the organisation; actor is the caller. It returns once the leaf is
// durable. A ttl of 0 means DefaultTTL; one out of bounds is a *FieldError.
// ErrUnhealthy if no gateway is healthy.
func (s *Service) Mint(ctx context.Context, org, actor string, ttl time.Duration) (IceServers, error) {
	out, m, err := s.mint(org, actor, ttl)
	if err != nil {
		return IceServers{}, err
	}
	if err := s.mints.record(ctx, m); err != nil {
		return IceServers{}, err
	}
	return out, nil
}

// mint makes the ICE servers, and what must be recorded before they are given
// away.
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
	m := minted{org: org, actor: actor, at: now, Credential: id, Expires: out.Expires}
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
		m.Gateways = append(m.Gateways, p.name)
	}
	if len(out.Servers) == 0 {
		return IceServers{}, minted{}, &closed
	}
	return out, m, nil
}

// serving returns the gateways that serve an organisation, in the order of their
// ids: its own, and those that serve every organisation. Its own hides one of
// the same id.
func (s *Service) serving(org string) []*plane {
	byID := map[string]*plane{}
	for name, p := range s.planes {
		if id, ok := strings.CutPrefix(name, "gateways/"); ok && byID[id] == nil {
			byID[id] = p
		}
		if id, ok := strings.CutPrefix(name, gateways().Name(org, "")); ok {
			byID[id] = p
		}
	}
	var out []*plane
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		out = append(out, byID[id])
	}
	return out
}
