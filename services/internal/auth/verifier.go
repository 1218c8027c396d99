// Package auth authenticates and authorises callers: OIDC bearer tokens (issuer
// discovery, JWKS, audience, expiry), roles mapped to the permissions that the
// protos declare, and short-lived tokens between relay services.
package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/hashicorp/golang-lru/v2/expirable"
	"golang.org/x/sync/singleflight"
)

// Errors of verification.
var (
	// ErrExpired: the token has expired.
	ErrExpired = errors.New("auth: token expired")
	// ErrInvalid: signature, issuer, audience, organisation or form is wrong.
	ErrInvalid = errors.New("auth: token invalid")
	// ErrIssuer: the issuer does not answer, so nothing can be verified.
	ErrIssuer = errors.New("auth: issuer does not answer")
)

// Bounds of the cache of verified tokens. A token is verified again after
// cacheTTL, so a key that the issuer has withdrawn stops being accepted.
const (
	cacheSize = 16384
	cacheTTL  = time.Minute
	// skew is how far the issuer's clock may be ahead. A token never lives longer
	// than it says.
	skew = 10 * time.Second
)

// OIDCConfig states which tokens are accepted.
type OIDCConfig struct {
	// Issuer is the issuer's URL, as in iss; the discovery document is below
	// it.
	Issuer string
	// Audience must be in the token's aud.
	Audience string
	// OrgClaim is the claim that has the organisation's id; "org" if empty.
	OrgClaim string
	// Plaintext allows keys over http:// from another host than this one.
	Plaintext bool
	// Client fetches the discovery document and keys; one with a timeout of 5 s
	// if nil.
	Client *http.Client
}

// Verifier verifies bearer tokens. It is safe for concurrent use.
type Verifier struct {
	cfg      OIDCConfig
	internal *Internal
	seen     *expirable.LRU[[sha256.Size]byte, verified]

	keys      atomic.Pointer[keySet]
	discovery singleflight.Group
	paused    atomic.Int64 // until when discovery is not tried again, in Unix nanoseconds
}

type verified struct {
	who    Principal
	expiry time.Time
}

// orgID is the form of an organisation's id.
var orgID = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// NewVerifier makes a verifier. It contacts the issuer at the first token, not
// now: the issuer may start later. internal may be nil.
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

// Verify returns the token's principal, or ErrExpired, ErrInvalid or ErrIssuer.
func (v *Verifier) Verify(ctx context.Context, token string) (Principal, error) {
	return v.verify(ctx, token, true)
}

// VerifyLocal is Verify without any request to the issuer: ok is false if the
// answer needs one.
func (v *Verifier) VerifyLocal(token string) (who Principal, ok bool, err error) {
	who, err = v.verify(context.Background(), token, false)
	if errors.Is(err, errNeedsIssuer) {
		return Principal{}, false, nil
	}
	return who, true, err
}

func (v *Verifier) verify(ctx context.Context, token string, wait bool) (Principal, error) {
	sum := sha256.Sum256([]byte(token))
	if got, ok := v.seen.Get(sum); ok {
		if !time.Now().Before(got.expiry) {
			return Principal{}, ErrExpired
		}
		return got.who, nil
	}
	got, err := v.check(ctx, token, wait)
	if err != nil {
		return Principal{}, err
	}
	got.who.Expires = got.expiry
	v.seen.Add(sum, got)
	return got.who, nil
}

// check verifies a token that was not seen before.
func (v *Verifier) check(ctx context.Context, token string, wait bool) (verified, error) {
	if !compact(token) {
		return verified{}, fmt.Errorf("%w: not in compact form, or longer than %d bytes", ErrInvalid, maxToken)
	}
	if v.internal != nil && v.internal.minted(token) {
		return v.internal.verify(token)
	}
	jws, got, err := v.read(token)
	if err != nil {
		return verified{}, err
	}
	keys := v.keys.Load()
	if keys == nil {
		if !wait {
			return verified{}, errNeedsIssuer
		}
		if keys, err = v.provider(ctx); err != nil {
			return verified{}, err
		}
	}
	return got, keys.verify(ctx, jws, wait)
}

// provider discovers the issuer once; if that fails, a token tries again after
// failurePause. Concurrent calls share one attempt, and each gives up at its own
// deadline: an issuer that hangs causes no queue.
func (v *Verifier) provider(ctx context.Context) (*keySet, error) {
	shared := context.WithoutCancel(ctx)
	done := v.discovery.DoChan("", func() (any, error) {
		if keys := v.keys.Load(); keys != nil {
			return keys, nil
		}
		if time.Now().UnixNano() < v.paused.Load() {
			return nil, fmt.Errorf("%w: it did not a moment ago", ErrIssuer)
		}
		keys, err := v.discover(shared)
		if err != nil {
			v.paused.Store(time.Now().Add(failurePause).UnixNano())
			return nil, err
		}
		v.keys.Store(keys)
		return keys, nil
	})
	select {
	case got := <-done:
		keys, _ := got.Val.(*keySet)
		return keys, got.Err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrIssuer, ctx.Err())
	}
}

// discover asks the issuer where its keys are (OpenID Connect Discovery 1.0 §4).
func (v *Verifier) discover(ctx context.Context) (*keySet, error) {
	p, err := oidc.NewProvider(oidc.ClientContext(ctx, v.cfg.Client), v.cfg.Issuer)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIssuer, err)
	}
	var said struct {
		Keys string `json:"jwks_uri"`
	}
	if err := p.Claims(&said); err != nil {
		return nil, fmt.Errorf("%w: discovery document: %w", ErrIssuer, err)
	}
	if err := SafeIssuer(said.Keys, v.cfg.Plaintext); err != nil {
		return nil, fmt.Errorf("%w: its jwks_uri: %w", ErrIssuer, err)
	}
	return newKeySet(said.Keys, v.cfg.Client), nil
}

// SafeIssuer returns nil if keys that come from this URL can be trusted: it is
// https, or http on loopback, or plaintext is allowed.
func SafeIssuer(raw string, plaintext bool) error {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("%.100q: want an https:// URL", raw)
	}
	ip, err := netip.ParseAddr(u.Hostname())
	loopback := u.Hostname() == "localhost" || err == nil && ip.IsLoopback()
	if u.Scheme == "http" && !loopback && !plaintext {
		return fmt.Errorf("%.100q: keys that come over http:// can be anybody's; use https://, or allow it with auth.plaintext_issuer", raw)
	}
	return nil
}
