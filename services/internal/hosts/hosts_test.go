package hosts_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/internal/hosts"
)

func TestOnlyOwnNames(t *testing.T) {
	names := []string{"Relay.example.com", "*.svc.cluster.local"}
	for host, ok := range map[string]bool{
		"127.0.0.1:8080":              true,
		"127.8.9.1":                   true,
		"localhost":                   true,
		"LOCALHOST:8080":              true,
		"[::1]:8080":                  true,
		"relay.example.com":           true,
		"relay.example.com.:443":      true,
		"relay.ns.svc.cluster.local":  true,
		"evil.example.com":            false,
		"127.0.0.1.evil.example.com":  false,
		"localhost.evil.example.com":  false,
		"xsvc.cluster.local":          false,
		"relay.example.com.evil.test": false,
		"10.0.0.5":                    false,
		"0.0.0.0:8080":                false,
		"":                            false,
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host = host
		require.Equal(t, ok, hosts.Allowed(r, names), host)
	}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Host = "evil.example.com"
	require.True(t, hosts.Allowed(r, []string{"*"}), "an operator may allow all")
}

// The address that a connection came to is a name of the server, and another
// one is not. A real server says which it was.
func TestOwnAddress(t *testing.T) {
	srv := httptest.NewUnstartedServer(hosts.Check(nil, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, srv.Listener.Close())
	srv.Listener = &elsewhere{lis}
	srv.Start()
	defer srv.Close()
	ask := func(host string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, nil)
		require.NoError(t, err)
		req.Host = host
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		return resp.StatusCode
	}
	require.Equal(t, http.StatusOK, ask("10.0.0.5:8081"))
	require.Equal(t, http.StatusMisdirectedRequest, ask("10.0.0.6:8081"))
	require.Equal(t, http.StatusMisdirectedRequest, ask("evil.example.com"))
}

// elsewhere lets connections seem to come to 10.0.0.5.
type elsewhere struct{ net.Listener }

func (e *elsewhere) Accept() (net.Conn, error) {
	c, err := e.Listener.Accept()
	return &moved{c}, err
}

type moved struct{ net.Conn }

func (m *moved) LocalAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 5), Port: 8081} }
