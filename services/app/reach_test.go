package app

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhatIsAwayIsSaid(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	here := lis.Addr().String()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	away := gone.Addr().String()
	require.NoError(t, gone.Close())
	defer lis.Close()

	c := Default()
	c.LiveKit.URL, c.Guacd.Address, c.Auth.Issuer = "http://"+away, here, "http://"+away+"/realms/x"
	said := askAll(t.Context(), outside(&c, false))
	require.Len(t, said, 3)
	require.ErrorContains(t, said["livekit"], "livekit.url")
	require.NoError(t, said["guacd"])
	require.ErrorContains(t, said["issuer"], "auth.issuer")

	c.Services = []string{"turn"}
	require.Empty(t, outside(&c, true), "only what this process uses")
}

func TestIssuerMustCallItselfAsWeDo(t *testing.T) {
	name := ""
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, "/realms/x/.well-known/openid-configuration", r.URL.Path)
		_, _ = fmt.Fprintf(w, `{"issuer": %q}`, name)
	}))
	defer web.Close()
	name = web.URL + "/realms/x"
	require.NoError(t, discoverable(t.Context(), name))
	require.ErrorContains(t, discoverable(t.Context(), name+"/"), name)
}

func TestHostOf(t *testing.T) {
	require.Equal(t, "a:7880", hostOf("ws://a:7880"))
	require.Equal(t, "a:443", hostOf("wss://a/x"))
	require.Equal(t, "[::1]:80", hostOf("http://[::1]"))
}
