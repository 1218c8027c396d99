package stacktest

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/pion/turn/v4"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/dev/stack"
)

// Certificate is [stack.SelfSigned].
func Certificate(t testing.TB) (cert, key string, roots *x509.CertPool) {
	t.Helper()
	cert, key, roots, err := stack.SelfSigned()
	require.NoError(t, err)
	return cert, key, roots
}

// Discovery serves STUNner's data plane with this id a fixed configuration, as a
// config discovery service does, until the test ends. It returns the origin.
func Discovery(t testing.TB, id, config string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/configs/"+id {
			http.NotFound(w, r)
			return
		}
		if r.URL.Query().Get("watch") == "" {
			_, _ = io.WriteString(w, config)
			return
		}
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = c.CloseNow() }()
		_ = c.Write(r.Context(), websocket.MessageText, []byte(config))
		_, _, _ = c.Read(r.Context()) // answers pings until stunnerd leaves
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// Allocate asks a TURN server for an allocation by an ICE URL, as a browser
// does. roots verify a turns: server. The error is the server's; everything is
// closed when the test ends.
func Allocate(t testing.TB, url, username, password string, roots *x509.CertPool) (*turn.Client, net.PacketConn, error) {
	t.Helper()
	scheme, rest, _ := strings.Cut(url, ":")
	addr, transport, _ := strings.Cut(rest, "?transport=")
	var conn net.PacketConn
	switch {
	case scheme == "turns":
		c, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}) //nolint:noctx // the server is on loopback
		require.NoError(t, err)
		conn = turn.NewSTUNConn(c)
	case transport == "tcp":
		c, err := net.Dial("tcp", addr) //nolint:noctx // the server is on loopback
		require.NoError(t, err)
		conn = turn.NewSTUNConn(c)
	default:
		c, err := net.ListenPacket("udp", "127.0.0.1:0") //nolint:noctx // nothing is sent
		require.NoError(t, err)
		conn = c
	}
	t.Cleanup(func() { _ = conn.Close() })
	client, err := turn.NewClient(&turn.ClientConfig{TURNServerAddr: addr, STUNServerAddr: addr, Username: username, Password: password, Conn: conn})
	require.NoError(t, err)
	t.Cleanup(client.Close)
	require.NoError(t, client.Listen())
	relay, err := client.Allocate()
	if err != nil {
		return nil, nil, err
	}
	t.Cleanup(func() { _ = relay.Close() })
	return client, relay, nil
}
