package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Tokens between relay services.
const (
	internalIssuer   = "bp-relay-internal"
	internalAudience = "bp-relay"
	internalTTL      = 5 * time.Minute
)

// Internal mints and verifies the tokens of calls between relay services: HS256
// with a secret that only they have, valid for five minutes, for one
// organisation. It is safe for concurrent use.
type Internal struct {
	key    []byte
	signer jose.Signer

	mu     sync.Mutex // guards tokens
	tokens map[string]mintedToken
}

type mintedToken struct {
	text string
	till time.Time
}

// NewInternal makes an Internal with the shared secret, at least 32 bytes.
func NewInternal(secret []byte) (*Internal, error) {
	if len(secret) < 32 {
		return nil, fmt.Errorf("auth: internal secret has %d bytes, want at least 32", len(secret))
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: secret},
		(&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", internalIssuer))
	if err != nil {
		return nil, fmt.Errorf("auth: internal signer: %w", err)
	}
	return &Internal{key: secret, signer: s, tokens: make(map[string]mintedToken)}, nil
}

type internalClaims struct {
	jwt.Claims
	Org string `json:"org"`
}

// Mint returns a token for a service that acts for an organisation. The same
// token is returned until half of its lifetime has passed.
func (i *Internal) Mint(service, org string) (string, error) {
	now := time.Now()
	key := service + "\x00" + org
	i.mu.Lock()
	defer i.mu.Unlock()
	if t, ok := i.tokens[key]; ok && now.Before(t.till) {
		return t.text, nil
	}
	text, err := jwt.Signed(i.signer).Claims(internalClaims{
		Claims: jwt.Claims{
			Issuer:   internalIssuer,
			Subject:  "service:" + service,
			Audience: jwt.Audience{internalAudience},
			IssuedAt: jwt.NewNumericDate(now),
			Expiry:   jwt.NewNumericDate(now.Add(internalTTL)),
		},
		Org: org,
	}).Serialize()
	if err != nil {
		return "", fmt.Errorf("auth: mint internal token: %w", err)
	}
	if len(i.tokens) >= cacheSize {
		clear(i.tokens)
	}
	i.tokens[key] = mintedToken{text: text, till: now.Add(internalTTL / 2)}
	return text, nil
}

// minted reports whether the token claims to be internal; verify checks its
// signature.
func (i *Internal) minted(token string) bool {
	t, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.HS256})
	return err == nil && len(t.Headers) == 1 && t.Headers[0].KeyID == internalIssuer
}

func (i *Internal) verify(token string) (verified, error) {
	t, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.HS256})
	if err != nil {
		return verified{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	var c internalClaims
	if err := t.Claims(i.key, &c); err != nil {
		return verified{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	err = c.ValidateWithLeeway(jwt.Expected{Issuer: internalIssuer, AnyAudience: jwt.Audience{internalAudience}, Time: time.Now()}, skew)
	switch {
	case errors.Is(err, jwt.ErrExpired):
		return verified{}, ErrExpired
	case err != nil:
		return verified{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	case c.Expiry == nil || !orgID.MatchString(c.Org) || !strings.HasPrefix(c.Subject, "service:"):
		return verified{}, fmt.Errorf("%w: incomplete internal token", ErrInvalid)
	}
	return verified{who: Principal{Subject: c.Subject, Org: c.Org, Service: true}, expiry: c.Expiry.Time()}, nil
}

// Credentials returns gRPC per-call credentials for a service that acts for the
// organisation of the principal in each call's context.
func (i *Internal) Credentials(service string) *ServiceCredentials {
	return &ServiceCredentials{internal: i, service: service}
}

// ServiceCredentials implements credentials.PerRPCCredentials.
type ServiceCredentials struct {
	internal *Internal
	service  string
}

// GetRequestMetadata mints the token for the call.
func (c *ServiceCredentials) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	org := From(ctx).Org
	if org == "" {
		return nil, fmt.Errorf("auth: service %s makes a call without an organisation in its context", c.service)
	}
	token, err := c.internal.Mint(c.service, org)
	if err != nil {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

// RequireTransportSecurity returns false: between processes, the operator's
// network (mTLS mesh or loopback) protects the call; within one, memory does.
func (c *ServiceCredentials) RequireTransportSecurity() bool { return false }
