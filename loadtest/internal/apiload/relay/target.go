package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// Target is a relay's API and its caller.
type Target struct {
	// Address is host:port of the gRPC API.
	Address string
	// Org is the organisation that the token is for: "acme".
	Org string
	// Token returns the bearer token, without "Bearer". It is called before each
	// RPC, so that a token can be renewed during a long load; it must be fast and
	// safe for concurrent use.
	Token func() (string, error)
	// TLS is nil for a plain connection (HTTP/2 with prior knowledge).
	TLS *tls.Config
}

// Parent returns the resource name of the organisation.
func (t Target) Parent() string { return "orgs/" + t.Org }

// Check returns an error if a field is missing.
func (t Target) Check() error {
	switch {
	case t.Address == "":
		return errors.New("relay: no address: set target.api.address to host:port of the API")
	case t.Org == "":
		return errors.New("relay: no organisation: set target.api.org to the one that the token is for")
	case t.Token == nil:
		return errors.New("relay: no token: set the variable that target.api.token_env names")
	}
	return nil
}

// Dial prepares a connection, which the first call opens. After a failure it is
// retried within a second, so that the load continues soon after relay is back.
func (t Target) Dial(opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	if err := t.Check(); err != nil {
		return nil, err
	}
	transport := insecure.NewCredentials()
	if t.TLS != nil {
		transport = credentials.NewTLS(t.TLS)
	}
	conn, err := grpc.NewClient(t.Address, append([]grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithPerRPCCredentials(bearer(t)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 2, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
	}, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("relay: connect to %s: %w", t.Address, err)
	}
	return conn, nil
}

// bearer puts the token into each call (RFC 6750 section 2.1).
type bearer Target

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	token, err := b.Token()
	if err != nil {
		return nil, fmt.Errorf("token: %w", err)
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

// RequireTransportSecurity returns false without TLS: relay-dev up serves plain
// HTTP/2 on loopback.
func (b bearer) RequireTransportSecurity() bool { return b.TLS != nil }
