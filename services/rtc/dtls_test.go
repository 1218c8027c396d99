package rtc

import (
	"context"
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/pion/dtls/v3"
	"github.com/stretchr/testify/require"
)

// sessions is a session store. A client calls Set as the last step of a handshake
// (pion/dtls, flight5handler.go), and then saved is called.
type sessions struct{ saved func() }

func (s sessions) Set([]byte, dtls.Session) error {
	s.saved()
	return nil
}
func (sessions) Get([]byte) (dtls.Session, error) { return dtls.Session{}, nil }
func (sessions) Del([]byte) error                 { return nil }

// TestHandshakeCancelled: a handshake that is cancelled as it finishes fails: its
// connection's Read would go on after Close.
func TestHandshakeCancelled(t *testing.T) {
	cert, err := newCertificate()
	require.NoError(t, err)
	config := func(saved func()) *dtls.Config { //nolint:staticcheck // as in transport.handshake
		return &dtls.Config{ //nolint:staticcheck // as above
			Certificates: []tls.Certificate{cert.tls}, InsecureSkipVerify: true, LoggerFactory: silent(),
			SessionStore: sessions{saved},
		}
	}
	a, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	b, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	server, err := dtls.Server(b, a.LocalAddr(), config(func() {})) //nolint:staticcheck // as above
	require.NoError(t, err)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.HandshakeContext(t.Context()) // it is the client's end that is looked at
	}()

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	client, err := dtls.Client(a, b.LocalAddr(), config(func() { //nolint:staticcheck // as above
		cancel()
		time.Sleep(50 * time.Millisecond) // time in which pion's reader sees the end
	}))
	require.NoError(t, err)
	require.ErrorIs(t, handshake(ctx, client), context.Canceled)
	require.NoError(t, client.Close())
	<-served
	_ = server.Close()
}
