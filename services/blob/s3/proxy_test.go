package s3_test

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// proxy stands in front of a real store and injects faults of networks and
// stores. Signatures stay valid, because it passes the Host header on.
type proxy struct {
	*httptest.Server
	store http.Handler
	mu    sync.Mutex
	hook  func(w http.ResponseWriter, r *http.Request, pass func()) // nil passes all
	count atomic.Int32                                              // requests seen since the hook was set
}

func newProxy(t *testing.T, endpoint string) *proxy {
	t.Helper()
	u, err := url.Parse(endpoint)
	require.NoError(t, err)
	p := &proxy{store: &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host = u.Scheme, u.Host
	}}}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.count.Add(1)
	p.mu.Lock()
	hook := p.hook
	p.mu.Unlock()
	if hook == nil {
		p.store.ServeHTTP(w, r)
		return
	}
	hook(w, r, func() { p.store.ServeHTTP(w, r) })
}

// on sets the hook until the end of the test.
func (p *proxy) on(t *testing.T, hook func(w http.ResponseWriter, r *http.Request, pass func())) {
	set := func(h func(http.ResponseWriter, *http.Request, func())) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.hook = h
		p.count.Store(0)
	}
	set(hook)
	t.Cleanup(func() { set(nil) })
}

// first applies fault to the first n requests of method and passes the rest.
func first(n int32, method string, fault func(w http.ResponseWriter, r *http.Request, pass func())) func(http.ResponseWriter, *http.Request, func()) {
	var seen atomic.Int32
	return func(w http.ResponseWriter, r *http.Request, pass func()) {
		if r.Method == method && seen.Add(1) <= n {
			fault(w, r, pass)
			return
		}
		pass()
	}
}

// hangUp closes the connection without an answer.
func hangUp(w http.ResponseWriter) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_ = c.Close()
	}
}

// carriedOut passes the request to the store and keeps its answer.
func (p *proxy) carriedOut(r *http.Request) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	p.store.ServeHTTP(rec, r)
	return rec
}

func s3Error(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>`+code+`</Code><Message>made by the test</Message></Error>`)
}

// errAny stands for any error.
var errAny = errors.New("any")

// etagOf converts a Content-MD5 header to the equivalent ETag.
func etagOf(t *testing.T, contentMD5 string) string {
	t.Helper()
	sum, err := base64.StdEncoding.DecodeString(contentMD5)
	require.NoError(t, err)
	return `"` + hex.EncodeToString(sum) + `"`
}
