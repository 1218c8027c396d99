package edge_test

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/openova-io/bp-relay/services/app/edge"
)

// A person who opens the API's address in a browser learns what it is. The page
// loads nothing from elsewhere, and no other path changes.
func TestRootPage(t *testing.T) {
	g := grpc.NewServer()
	defer g.Stop()
	h, err := edge.New(edge.Config{GRPC: g, Hosts: []string{"example.com"}, Version: "v1<2"}).Handler()
	require.NoError(t, err)
	get := func(method, path, accept string) *httptest.ResponseRecorder {
		req := httptest.NewRequest(method, path, nil)
		if accept != "" {
			req.Header.Set("Accept", accept)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		return w
	}
	for _, accept := range []string{"", "*/*", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"} {
		w := get(http.MethodGet, "/", accept)
		require.Equal(t, http.StatusOK, w.Code, accept)
		require.Equal(t, "text/html; charset=utf-8", w.Header().Get("Content-Type"))
		require.Regexp(t, `^default-src 'none'; style-src 'sha256-[A-Za-z0-9+/]{43}='; base-uri 'none'; form-action 'none'; frame-ancestors 'none'$`,
			w.Header().Get("Content-Security-Policy"))
		page := w.Body.String()
		style := regexp.MustCompile(`(?s)<style>(.*)</style>`).FindStringSubmatch(page)
		require.Len(t, style, 2)
		sum := sha256.Sum256([]byte(style[1]))
		require.Contains(t, w.Header().Get("Content-Security-Policy"), "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'", "a browser applies the style")
		for _, part := range []string{"bp-relay", "Version v1&lt;2", "/v1/orgs/{org}/", "<code>listen.admin</code>", "/readyz", "/tree/main/proto/relay", "/tree/main/docs"} {
			require.Contains(t, page, part)
		}
		require.NotRegexp(t, regexp.MustCompile(`(?i)<script|<link|<img|src=|@import|url\(| style=`), page)
	}
	w := get(http.MethodGet, "/", "application/json")
	require.Equal(t, http.StatusNotFound, w.Code)
	require.Contains(t, w.Body.String(), "PATH_NOT_FOUND")
	require.Equal(t, http.StatusNotFound, get(http.MethodGet, "/v1/nothing", "text/html").Code)
	require.Contains(t, get(http.MethodGet, "/v1/nothing", "text/html").Body.String(), "PATH_NOT_FOUND")
	require.Equal(t, http.StatusNotFound, get(http.MethodGet, "/nothing", "text/html").Code)
	require.Contains(t, get(http.MethodGet, "/nothing", "text/html").Body.String(), "PATH_NOT_FOUND")
	posted := get(http.MethodPost, "/", "*/*")
	require.Equal(t, http.StatusMethodNotAllowed, posted.Code)
	require.Equal(t, "GET, HEAD", posted.Header().Get("Allow"))
	require.Contains(t, posted.Body.String(), "METHOD_NOT_ALLOWED")
}
