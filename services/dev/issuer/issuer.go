// Package issuer is a small OpenID Connect issuer for development. Its key is in
// the data folder. `relay-dev up` serves its discovery document and key set on
// loopback, and `relay-dev token` signs tokens with the same key. `relay serve`
// does not contain it: production has Keycloak.
package issuer

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// KeyFile is the name of the key's file in the data folder.
const KeyFile = "issuer.pem"

// MaxTTL is the longest validity of a development token.
const MaxTTL = 24 * time.Hour

// Issuer signs tokens and serves the keys that verify them. It is safe for
// concurrent use.
type Issuer struct {
	url    string
	key    *ecdsa.PrivateKey
	kid    string
	signer jose.Signer
}

// Claims are the content of a token.
type Claims struct {
	Subject  string
	Org      string
	Roles    []string
	Groups   []string
	Audience string
	TTL      time.Duration // at most MaxTTL; negative gives an expired token
	// ID and Login are the token's jti and sid; a random jti and no sid if "".
	ID, Login string
}

// New returns the issuer with this URL and the key in keyFile. It creates the
// file, with mode 0600, if it is missing.
func New(url, keyFile string) (*Issuer, error) {
	key, err := loadKey(keyFile)
	if err != nil {
		return nil, err
	}
	pub, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("marshal issuer key: %w", err)
	}
	sum := sha256.Sum256(pub)
	kid := base64.RawURLEncoding.EncodeToString(sum[:12])
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key},
		(&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", kid))
	if err != nil {
		return nil, fmt.Errorf("make issuer's signer: %w", err)
	}
	return &Issuer{url: url, key: key, kid: kid, signer: signer}, nil
}

// URL returns the issuer's name: the claim iss.
func (i *Issuer) URL() string { return i.url }

// Token signs a token that is valid from now on. Subject, Org and Audience are
// required.
func (i *Issuer) Token(c Claims) (string, error) {
	if c.TTL > MaxTTL {
		return "", fmt.Errorf("ttl %s is longer than %s", c.TTL, MaxTTL)
	}
	if c.Subject == "" || c.Org == "" || c.Audience == "" {
		return "", errors.New("a token needs subject, organisation and audience")
	}
	now := time.Now()
	claims := map[string]any{
		"iss": i.url, "sub": c.Subject, "aud": c.Audience, "org": c.Org, "jti": cmp.Or(c.ID, rand.Text()),
		"iat": now.Unix(), "exp": now.Add(c.TTL).Unix(),
		"realm_access": map[string]any{"roles": c.Roles},
		"groups":       c.Groups,
	}
	if c.Login != "" {
		claims["sid"] = c.Login
	}
	token, err := jwt.Signed(i.signer).Claims(claims).Serialize()
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return token, nil
}

// Routes serves discovery (OpenID Connect Discovery 1.0 §4) and the key set under
// prefix, which is the path of the issuer's URL.
func (i *Issuer) Routes(mux *http.ServeMux, prefix string) {
	mux.HandleFunc("GET "+prefix+"/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{
			"issuer":                                i.url,
			"jwks_uri":                              i.url + "/keys",
			"authorization_endpoint":                i.url + "/not-for-browsers",
			"response_types_supported":              []string{"token"},
			"subject_types_supported":               []string{"public"},
			"id_token_signing_alg_values_supported": []string{string(jose.ES256)},
		})
	})
	mux.HandleFunc("GET "+prefix+"/keys", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{
			Key: i.key.Public(), KeyID: i.kid, Algorithm: string(jose.ES256), Use: "sig",
		}}})
	})
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("content-type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // an error: the client went away
}

func loadKey(path string) (*ecdsa.PrivateKey, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return makeKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read issuer key: %w", err)
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, fmt.Errorf("issuer key %s is not PEM; delete it to get a new one", path)
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse issuer key %s: %w", path, err)
	}
	return key, nil
}

func makeKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make issuer key: %w", err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("marshal issuer key: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make issuer's folder: %w", err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) { // another process created it first
		return loadKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("create issuer key: %w", err)
	}
	err = pem.Encode(f, &pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, fmt.Errorf("write issuer key: %w", err)
	}
	return key, nil
}
