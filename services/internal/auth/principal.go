package auth

import (
	"context"
	"time"
)

// Principal is the caller of a call.
type Principal struct {
	// Subject is the token's sub: the identity provider's opaque id, or
	// "service:<name>" for a relay service.
	Subject string
	// Org is the organisation's id; a principal sees this organisation only.
	Org string
	// Roles and Groups are the token's realm_access.roles and groups.
	Roles, Groups []string
	// Service is true for calls between relay services.
	Service bool
	// Expires is when the token expires: streams end then.
	Expires time.Time
	// TokenID and Login are the token's jti and sid, "" if it has none, and Issued
	// its iat, zero if it has none. By them it may be revoked.
	TokenID, Login string
	Issued         time.Time
}

type principalKey struct{}

// With returns a context that carries the principal.
func With(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// From returns the caller's principal, the zero value if there is none.
func From(ctx context.Context) Principal {
	p, _ := ctx.Value(principalKey{}).(Principal)
	return p
}
