package sut

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/openova-io/bp-relay/services/dev/stack"
	"github.com/openova-io/bp-relay/services/turn"
	"github.com/openova-io/bp-relay/services/turn/cds"
)

// The paths through TURN, which are also the names of its listeners.
const (
	UDP = "turn-udp"
	TCP = "turn-tcp"
	TLS = "turn-tls"
)

// udpThreads are the read loops of a UDP listener, as many as STUNner's
// operator runs (Dataplane's default).
const udpThreads = 16

// TURNServer is one address of the TURN server, as clients get it.
type TURNServer struct {
	// URL is as in RFC 7065: "turn:127.0.0.1:20001?transport=udp".
	URL string
	// Secret signs ephemeral credentials: see [Credentials].
	Secret string
	// CA verifies the server's certificate if the scheme is turns; nil otherwise.
	CA *x509.CertPool
}

// Credentials returns a user's ephemeral TURN credentials, valid until now +
// ttl (draft-uberti-behave-turn-rest-00, STUNner's "ephemeral" authentication).
// user must not contain a colon. STUNner checks the expiry at every refresh, so
// ttl must exceed the run's length.
func Credentials(secret string, ttl time.Duration, now time.Time, user string) (username, password string) {
	c := turn.Sign(secret, user, now.Add(ttl))
	return c.Username, c.Password
}

// discovery serves STUNner its configuration until it is stopped.
type discovery struct {
	server *cds.Server
	cancel context.CancelFunc
	done   chan error
}

// serve starts to serve one configuration.
func serve(config *turn.Compiled, log *slog.Logger) (*discovery, error) {
	server, err := cds.New(cds.Config{Logger: log})
	if err != nil {
		return nil, fmt.Errorf("sut: %w", err)
	}
	server.Set(config.ID, config.Version(), config.JSON)
	ctx, cancel := context.WithCancel(context.Background()) // ends with stop
	d := &discovery{server: server, cancel: cancel, done: make(chan error, 1)}
	go func() { d.done <- server.Run(ctx) }()
	return d, nil
}

func (d *discovery) stop() error {
	d.cancel()
	return <-d.done
}

// gateway returns the configuration of a data plane with the three listeners,
// through which clients reach LiveKit's UDP port and nothing else.
func gateway(ports *stack.Ports, sfu uint16, cert, key string) (turn.Gateway, error) {
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	var taken [5]uint16
	for i := range taken {
		n, err := ports.Take()
		if err != nil {
			return turn.Gateway{}, err
		}
		taken[i] = uint16(n)
	}
	return turn.Gateway{
		Name: "gateways/loadtest",
		Listeners: []turn.Listener{
			{Name: UDP, Protocol: turn.UDP, Port: taken[0], RelayAddr: loopback},
			{Name: TCP, Protocol: turn.TCP, Port: taken[1], RelayAddr: loopback},
			{Name: TLS, Protocol: turn.TLS, Port: taken[2], RelayAddr: loopback, Cert: cert, Key: key},
		},
		Peers:   []turn.Peer{{Addr: loopback, MinPort: sfu, MaxPort: sfu}},
		Health:  netip.AddrPortFrom(loopback, taken[3]),
		Metrics: netip.AddrPortFrom(loopback, taken[4]),
	}, nil
}

// servers returns a gateway's servers, as clients get them.
func servers(g turn.Gateway, secret string, roots *x509.CertPool) map[string]TURNServer {
	out := map[string]TURNServer{}
	for _, l := range g.Listeners {
		at := netip.AddrPortFrom(l.RelayAddr, l.Port)
		switch l.Protocol {
		case turn.UDP:
			out[l.Name] = TURNServer{URL: fmt.Sprintf("turn:%s?transport=udp", at), Secret: secret}
		case turn.TCP:
			out[l.Name] = TURNServer{URL: fmt.Sprintf("turn:%s?transport=tcp", at), Secret: secret}
		case turn.TLS:
			out[l.Name] = TURNServer{URL: fmt.Sprintf("turns:%s?transport=tcp", at), Secret: secret, CA: roots}
		}
	}
	return out
}

// newSecret returns a secret of 256 random bits.
func newSecret() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}
