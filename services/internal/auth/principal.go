package auth

import (
	"context"
	"time"
)

// Principal is who makes a call.
type Principal struct {
	// Subject is the token's sub: for people the identity provider's opaque
	// id, for services "service:<name>".
	Subject string
	// Org is the organisation's id; a principal sees nothing of another one.
	Org string
	// Roles are realm_access.roles; Groups are groups.
	Roles, Groups []string
	// Service is true for calls between our own services.
	Service bool
	// Expires is when the token's time is over: what lasts longer than a call
	// ends then.
	Expires time.Time
}

type principalKey struct{}

// With returns a context that carries the principal.
func With(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// From returns the caller's principal; the zero value where there is none.
func From(ctx context.Context) Principal {
	p, _ := ctx.Value(principalKey{}).(Principal)
	return p
}
