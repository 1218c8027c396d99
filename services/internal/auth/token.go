package auth

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/openova-io/bp-relay/services/internal/identity"
)

const (
	// maxToken bounds a token in bytes.
	maxToken = 12 << 10
	// maxSubject bounds a subject in bytes (OpenID Connect Core 1.0 §2: at most
	// 255 characters).
	maxSubject = 255
)

// algorithms are the signatures that are accepted.
func algorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{
		jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
	}
}

// compact reports whether the token has the form of the JWS compact
// serialization (RFC 7515 §7.1): three parts of base64url. The JSON forms, and
// white space that some parsers skip, would give one token many spellings.
func compact(token string) bool {
	if len(token) > maxToken || strings.Count(token, ".") != 2 {
		return false
	}
	for i := range len(token) {
		c := token[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

// claims are what is read from a token.
type claims struct {
	jwt.Claims
	RealmAccess struct {
		Roles []string `json:"roles"`
	} `json:"realm_access"`
	Groups []string `json:"groups"`
	// Login is the issuer's session (OpenID Connect Front-Channel Logout 1.0 §3).
	Login string `json:"sid"`
}

// read parses a token and judges everything but its signature. So a token that
// can never be accepted causes no request to the issuer.
func (v *Verifier) read(token string) (*jose.JSONWebSignature, verified, error) {
	jws, err := jose.ParseSignedCompact(token, algorithms())
	if err != nil {
		return nil, verified{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	var c claims
	var all map[string]json.RawMessage
	payload := jws.UnsafePayloadWithoutVerification()
	for _, into := range []any{&c, &all} {
		if err := json.Unmarshal(payload, into); err != nil {
			return nil, verified{}, fmt.Errorf("%w: claims: %w", ErrInvalid, err)
		}
	}
	got, err := v.judge(&c, all)
	return jws, got, err
}

// ours reports whether a subject reads like an actor that the evidence log names
// and that has no token: relay itself, its services, an operator at the command
// line, a stranger, or several callers.
func ours(subject string) bool {
	reads := func(name string) bool { return identity.Reads(subject, name) }
	begins := func(prefix string) bool { return identity.Begins(subject, prefix) }
	return slices.ContainsFunc([]string{"relay", "anonymous", "several"}, reads) || slices.ContainsFunc([]string{"service:", "operator:"}, begins)
}

// judge checks the claims.
func (v *Verifier) judge(c *claims, all map[string]json.RawMessage) (verified, error) {
	now := time.Now()
	var org string
	_ = json.Unmarshal(all[v.cfg.OrgClaim], &org) // an error leaves "", which names no organisation
	switch {
	case c.Issuer != v.cfg.Issuer:
		return verified{}, fmt.Errorf("%w: issued by %.100q, not by %q", ErrInvalid, c.Issuer, v.cfg.Issuer)
	case !slices.Contains(c.Audience, v.cfg.Audience):
		return verified{}, fmt.Errorf("%w: the audience %q is not among its own", ErrInvalid, v.cfg.Audience)
	case c.Expiry == nil:
		return verified{}, fmt.Errorf("%w: no expiry", ErrInvalid)
	case !now.Before(c.Expiry.Time()):
		return verified{}, fmt.Errorf("%w at %s", ErrExpired, c.Expiry.Time().UTC().Format(time.RFC3339))
	case c.NotBefore != nil && now.Add(skew).Before(c.NotBefore.Time()):
		return verified{}, fmt.Errorf("%w: not valid before %s", ErrInvalid, c.NotBefore.Time().UTC().Format(time.RFC3339))
	case !orgID.MatchString(org):
		return verified{}, fmt.Errorf("%w: claim %q does not name an organisation", ErrInvalid, v.cfg.OrgClaim)
	case c.Subject == "" || len(c.Subject) > maxSubject:
		return verified{}, fmt.Errorf("%w: a subject of %d bytes; want 1 to %d", ErrInvalid, len(c.Subject), maxSubject)
	case !identity.Plain(c.Subject) || ours(c.Subject):
		return verified{}, fmt.Errorf("%w: the subject %.300q has invisible characters, or reads like one of relay's own", ErrInvalid, c.Subject)
	}
	who := Principal{Subject: c.Subject, Org: org, Roles: c.RealmAccess.Roles, Groups: c.Groups, TokenID: c.ID, Login: c.Login}
	if c.IssuedAt != nil {
		who.Issued = c.IssuedAt.Time()
	}
	return verified{who: who, expiry: c.Expiry.Time()}, nil
}
