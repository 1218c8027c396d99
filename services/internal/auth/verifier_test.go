package auth_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/dev/issuer"
	"github.com/openova-io/bp-relay/services/internal/auth"
)

// realm is a real issuer that counts what it is asked.
type realm struct {
	*issuer.Issuer
	url                string
	discoveries, fetch atomic.Int32
	routes             atomic.Pointer[http.ServeMux] // of the issuer whose keys are shown
}

func newRealm(t *testing.T) *realm {
	t.Helper()
	r := new(realm)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch {
		case strings.HasSuffix(req.URL.Path, "/keys"):
			r.fetch.Add(1)
		default:
			r.discoveries.Add(1)
		}
		r.routes.Load().ServeHTTP(w, req)
	}))
	t.Cleanup(web.Close)
	r.url = web.URL + "/realm"
	r.Issuer = r.show(t)
	return r
}

// show makes another key, and shows only that from now on.
func (r *realm) show(t *testing.T) *issuer.Issuer {
	t.Helper()
	next := stranger(t, r.url)
	mux := http.NewServeMux()
	next.Routes(mux, "/realm")
	r.routes.Store(mux)
	return next
}

// stranger is an issuer of that name with a key of its own.
func stranger(t *testing.T, url string) *issuer.Issuer {
	t.Helper()
	s, err := issuer.New(url, filepath.Join(t.TempDir(), "issuer.pem"))
	require.NoError(t, err)
	return s
}

func token(t *testing.T, i *issuer.Issuer, change func(*issuer.Claims)) string {
	t.Helper()
	c := issuer.Claims{Subject: "someone", Org: "acme", Audience: "bp-relay", TTL: time.Minute}
	if change != nil {
		change(&c)
	}
	text, err := i.Token(c)
	require.NoError(t, err)
	return text
}

func verifier(t *testing.T, url string) *auth.Verifier {
	t.Helper()
	v, err := auth.NewVerifier(auth.OIDCConfig{Issuer: url, Audience: "bp-relay"}, nil)
	require.NoError(t, err)
	return v
}

// An issuer that hangs is contacted once for all waiting calls, and no call waits
// past its own deadline.
func TestIssuerThatHangs(t *testing.T) {
	var asked atomic.Int32
	release := make(chan struct{})
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		<-release
		http.Error(w, "not now", http.StatusServiceUnavailable)
	}))
	defer web.Close()
	v, good := verifier(t, web.URL), token(t, stranger(t, web.URL), nil)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			_, err := v.Verify(ctx, good)
			if !errors.Is(err, auth.ErrIssuer) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
	require.Less(t, time.Since(began), 4*time.Second) // one attempt may take 5 s
	require.EqualValues(t, 1, asked.Load())
	close(release)
	require.Eventually(t, func() bool { // a later token asks again
		_, err := v.Verify(t.Context(), good)
		return errors.Is(err, auth.ErrIssuer) && asked.Load() >= 2
	}, 5*time.Second, 10*time.Millisecond)
}

// 500 tokens that somebody made up fetched the key set 500 times.
func TestMadeUpTokensDoNotReachTheIssuer(t *testing.T) {
	r := newRealm(t)
	v := verifier(t, r.url)
	_, err := v.Verify(t.Context(), token(t, r.Issuer, nil))
	require.NoError(t, err)
	require.EqualValues(t, 1, r.fetch.Load())

	forger := stranger(t, r.url)
	for i := range 500 { // one key id, 500 tokens
		_, err := v.Verify(t.Context(), token(t, forger, func(c *issuer.Claims) { c.Subject = fmt.Sprint(i) }))
		require.ErrorIs(t, err, auth.ErrInvalid)
	}
	require.EqualValues(t, 2, r.fetch.Load(), "an unknown key is looked for once")

	for range 500 { // 500 key ids
		_, err := v.Verify(t.Context(), token(t, stranger(t, r.url), nil))
		require.True(t, errors.Is(err, auth.ErrInvalid) || errors.Is(err, auth.ErrIssuer), err)
	}
	require.LessOrEqual(t, r.fetch.Load(), int32(5))

	_, err = v.Verify(t.Context(), token(t, r.Issuer, func(c *issuer.Claims) { c.Subject = "another" }))
	require.NoError(t, err, "who has a good token notices nothing")
	require.EqualValues(t, 1, r.discoveries.Load())
}

// What can never be accepted is refused before the issuer is asked anything.
func TestHopelessTokensAskNobody(t *testing.T) {
	r := newRealm(t)
	v := verifier(t, r.url)
	good := token(t, r.Issuer, nil)
	parts := strings.Split(good, ".")
	asJSON, err := json.Marshal(map[string]string{"protected": parts[0], "payload": parts[1], "signature": parts[2]})
	require.NoError(t, err)
	for name, c := range map[string]struct {
		token string
		want  error
	}{
		"another issuer":     {token(t, stranger(t, "https://sso.example.org"), nil), auth.ErrInvalid},
		"another audience":   {token(t, r.Issuer, func(c *issuer.Claims) { c.Audience = "other" }), auth.ErrInvalid},
		"expired":            {token(t, r.Issuer, func(c *issuer.Claims) { c.TTL = -time.Second }), auth.ErrExpired},
		"no organisation":    {token(t, r.Issuer, func(c *issuer.Claims) { c.Org = "Not An Org" }), auth.ErrInvalid},
		"a long subject":     {token(t, r.Issuer, func(c *issuer.Claims) { c.Subject = strings.Repeat("x", 256) }), auth.ErrInvalid},
		"a bidi control":     {token(t, r.Issuer, func(c *issuer.Claims) { c.Subject = "ann\u202eben" }), auth.ErrInvalid},
		"a NUL":              {token(t, r.Issuer, func(c *issuer.Claims) { c.Subject = "ann\x00" }), auth.ErrInvalid},
		"relay itself":       {token(t, r.Issuer, func(c *issuer.Claims) { c.Subject = "Rel\u0430y" }), auth.ErrInvalid},
		"a service":          {token(t, r.Issuer, func(c *issuer.Claims) { c.Subject = "service:room" }), auth.ErrInvalid},
		"an operator":        {token(t, r.Issuer, func(c *issuer.Claims) { c.Subject = "operat\u043er:jane" }), auth.ErrInvalid},
		"JSON serialization": {string(asJSON), auth.ErrInvalid},
		"white space":        {parts[0] + ". " + parts[1] + "." + parts[2], auth.ErrInvalid},
		"a line break":       {good + "\n", auth.ErrInvalid},
		"padding":            {good + "=", auth.ErrInvalid},
		"five parts":         {good + ".x.y", auth.ErrInvalid},
		"too long":           {good + strings.Repeat("A", 12<<10), auth.ErrInvalid},
	} {
		_, err := v.Verify(t.Context(), c.token)
		require.ErrorIs(t, err, c.want, name)
		require.Zero(t, r.discoveries.Load()+r.fetch.Load(), name)
	}
	_, err = v.Verify(t.Context(), parts[0]+"."+parts[1]+".")
	require.ErrorIs(t, err, auth.ErrInvalid, "no signature")
	_, err = v.Verify(t.Context(), good)
	require.NoError(t, err)
}

// A key that the issuer has begun to use is accepted at once.
func TestNewKey(t *testing.T) {
	r := newRealm(t)
	v := verifier(t, r.url)
	_, err := v.Verify(t.Context(), token(t, r.Issuer, nil))
	require.NoError(t, err)
	_, err = v.Verify(t.Context(), token(t, r.show(t), nil))
	require.NoError(t, err)
	require.EqualValues(t, 2, r.fetch.Load())
}

// Without waiting for the issuer, only what is known is decided.
func TestVerifyLocal(t *testing.T) {
	r := newRealm(t)
	v := verifier(t, r.url)
	good := token(t, r.Issuer, nil)
	_, ok, err := v.VerifyLocal(good)
	require.NoError(t, err)
	require.False(t, ok)
	_, ok, err = v.VerifyLocal(token(t, stranger(t, "https://sso.example.org"), nil))
	require.True(t, ok)
	require.ErrorIs(t, err, auth.ErrInvalid)
	require.Zero(t, r.discoveries.Load())
	_, err = v.Verify(t.Context(), good)
	require.NoError(t, err)
	who, ok, err := v.VerifyLocal(token(t, r.Issuer, func(c *issuer.Claims) { c.Subject = "another" }))
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, "another", who.Subject)
}

// A token is not accepted past its end, also if it was verified before.
func TestTokenEndsWhenItSays(t *testing.T) {
	r := newRealm(t)
	v := verifier(t, r.url)
	short := token(t, r.Issuer, func(c *issuer.Claims) { c.TTL = 2 * time.Second })
	who, err := v.Verify(t.Context(), short)
	require.NoError(t, err)
	time.Sleep(time.Until(who.Expires))
	_, err = v.Verify(t.Context(), short)
	require.ErrorIs(t, err, auth.ErrExpired)
}

// Keys that come in plaintext from elsewhere can be anybody's.
func TestSafeIssuer(t *testing.T) {
	for url, ok := range map[string]bool{
		"https://sso.example.org/realms/x": true,
		"http://127.0.0.1:8080/realm":      true,
		"http://localhost/realm":           true,
		"http://[::1]:1/realm":             true,
		"http://sso.example.org":           false,
		"http://127.0.0.1.example.org":     false,
		"http://10.0.0.5/realm":            false,
		"ftp://sso.example.org":            false,
		"sso.example.org":                  false,
		"":                                 false,
	} {
		require.Equal(t, ok, auth.SafeIssuer(url, false) == nil, url)
	}
	require.NoError(t, auth.SafeIssuer("http://sso.example.org", true))

	r := newRealm(t)
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"issuer": %q, "jwks_uri": "http://keys.example.org/keys"}`, r.url)
	})
	r.routes.Store(mux)
	_, err := verifier(t, r.url).Verify(t.Context(), token(t, r.Issuer, nil))
	require.ErrorIs(t, err, auth.ErrIssuer)
	require.ErrorContains(t, err, "jwks_uri")
}
