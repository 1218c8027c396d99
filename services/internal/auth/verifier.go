// Package auth says who makes a call and whether it may: OIDC bearer tokens
// (issuer discovery, JWKS, audience, expiry), roles mapped to the permissions
// that the protos declare, and short-lived tokens between our own services.
package auth

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/hashicorp/golang-lru/v2/expirable"
	"golang.org/x/sync/singleflight"
)

// Errors of verification.
var (
	// ErrExpired: the token's time is over.
	ErrExpired = errors.New("auth: token expired")
	// ErrInvalid: signature, issuer, audience, organisation or form is wrong.
	ErrInvalid = errors.New("auth: token invalid")
	// ErrIssuer: the issuer does not answer, so nothing can be verified.
	ErrIssuer = errors.New("auth: issuer does not answer")
)

// Bounds of the cache of verified tokens: a token is looked at again after
// cacheTTL at the latest, so a key that the issuer withdrew stops to count.
const (
	cacheSize = 16384
	cacheTTL  = time.Minute
	// skew is how far the issuer's clock may be ahead or behind.
	skew = 10 * time.Second
)

// OIDCConfig says whose tokens are accepted.
type OIDCConfig struct {
	// Issuer is the issuer's URL, as it stands in iss; its discovery document
	// is fetched from there.
	Issuer string
	// Audience must be among the token's aud.
	Audience string
	// OrgClaim names the claim that holds the organisation's id; "org" where
	// it is empty.
	OrgClaim string
	// Client fetches discovery and keys; a client with a 5 s timeout where it
	// is nil.
	Client *http.Client
}

// Verifier verifies bearer tokens. It is safe for concurrent use.
type Verifier struct {
	cfg      OIDCConfig
	internal *Internal
	seen     *expirable.LRU[[sha256.Size]byte, verified]

	oid       atomic.Pointer[oidc.IDTokenVerifier]
	discovery singleflight.Group
}

type verified struct {
	who    Principal
	expiry time.Time
}

// orgID is the form of an organisation's id.
var orgID = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// NewVerifier makes a verifier. The issuer is asked at the first token, not
// now: it may start after us. internal may be nil.
func NewVerifier(cfg OIDCConfig, internal *Internal) (*Verifier, error) {
	if cfg.Issuer == "" || cfg.Audience == "" {
		return nil, errors.New("auth: issuer and audience are needed (auth.issuer, auth.audience)")
	}
	if cfg.OrgClaim == "" {
		cfg.OrgClaim = "org"
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{Timeout: 5 * time.Second}
	}
	return &Verifier{
		cfg:      cfg,
		internal: internal,
		seen:     expirable.NewLRU[[sha256.Size]byte, verified](cacheSize, nil, cacheTTL),
	}, nil
}

// Verify returns who the token stands for, or ErrExpired, ErrInvalid, ErrIssuer.
func (v *Verifier) Verify(ctx context.Context, token string) (Principal, error) {
	sum := sha256.Sum256([]byte(token))
	if got, ok := v.seen.Get(sum); ok {
		if time.Now().After(got.expiry.Add(skew)) {
			return Principal{}, ErrExpired
		}
		return got.who, nil
	}
	got, err := v.verify(ctx, token)
	if err != nil {
		return Principal{}, err
	}
	got.who.Expires = got.expiry
	v.seen.Add(sum, got)
	return got.who, nil
}

func (v *Verifier) verify(ctx context.Context, token string) (verified, error) {
	if v.internal != nil && v.internal.minted(token) {
		return v.internal.verify(token)
	}
	oid, err := v.provider(ctx)
	if err != nil {
		return verified{}, err
	}
	id, err := oid.Verify(oidc.ClientContext(ctx, v.cfg.Client), token)
	var expired *oidc.TokenExpiredError
	switch {
	case errors.As(err, &expired):
		return verified{}, fmt.Errorf("%w at %s", ErrExpired, expired.Expiry.UTC().Format(time.RFC3339))
	case err != nil:
		return verified{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return v.principal(id)
}

func (v *Verifier) principal(id *oidc.IDToken) (verified, error) {
	var c struct {
		RealmAccess struct {
			Roles []string `json:"roles"`
		} `json:"realm_access"`
		Groups []string `json:"groups"`
	}
	var all map[string]json.RawMessage
	if err := errors.Join(id.Claims(&c), id.Claims(&all)); err != nil {
		return verified{}, fmt.Errorf("%w: claims: %w", ErrInvalid, err)
	}
	var org string
	if err := json.Unmarshal(all[v.cfg.OrgClaim], &org); err != nil || !orgID.MatchString(org) {
		return verified{}, fmt.Errorf("%w: claim %q does not name an organisation", ErrInvalid, v.cfg.OrgClaim)
	}
	if id.Subject == "" {
		return verified{}, fmt.Errorf("%w: no subject", ErrInvalid)
	}
	return verified{
		who:    Principal{Subject: id.Subject, Org: org, Roles: c.RealmAccess.Roles, Groups: c.Groups},
		expiry: id.Expiry,
	}, nil
}

// provider discovers the issuer once; a failed attempt is made again with the
// next token. Calls that come while an attempt is under way share it, and give
// up when their own time is over: an issuer that hangs makes no queue.
func (v *Verifier) provider(ctx context.Context) (*oidc.IDTokenVerifier, error) {
	if oid := v.oid.Load(); oid != nil {
		return oid, nil
	}
	shared := context.WithoutCancel(ctx)
	done := v.discovery.DoChan("", func() (any, error) { return v.discover(shared) })
	select {
	case got := <-done:
		oid, _ := got.Val.(*oidc.IDTokenVerifier)
		return oid, got.Err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrIssuer, ctx.Err())
	}
}

// discover asks the issuer. The key set fetches for as long as the verifier
// lives, so neither hangs on the context of the first call.
func (v *Verifier) discover(ctx context.Context) (*oidc.IDTokenVerifier, error) {
	p, err := oidc.NewProvider(oidc.ClientContext(ctx, v.cfg.Client), v.cfg.Issuer)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIssuer, err)
	}
	oid := p.VerifierContext(oidc.ClientContext(context.Background(), v.cfg.Client), &oidc.Config{
		ClientID: v.cfg.Audience,
		SupportedSigningAlgs: []string{
			oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512,
			oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA,
		},
	})
	v.oid.Store(oid)
	return oid, nil
}
