package app

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/openova-io/bp-relay/services/app/edge"
	"github.com/openova-io/bp-relay/services/app/edge/guard"
	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/revocation"
	"github.com/openova-io/bp-relay/services/internal/rpc"
	"github.com/openova-io/bp-relay/services/records"
)

// makeInternal returns the issuer of service tokens: what one service shows
// another. If one process runs everything, the secret is random.
func makeInternal(b *builder) (*auth.Internal, error) {
	secret, err := b.cfg.Auth.InternalSecret.Reveal()
	if err != nil {
		return nil, err
	}
	raw := []byte(secret)
	if secret == "" {
		raw = make([]byte, 32)
		if _, err := rand.Read(raw); err != nil {
			return nil, fmt.Errorf("random internal secret: %w", err)
		}
	}
	return auth.NewInternal(raw)
}

// makeRevocations returns what this process knows of the tokens that are refused
// before they expire.
func makeRevocations(ctx context.Context, b *builder, db records.DB, live bus.Bus) (*revocation.Set, error) {
	s, err := revocation.New(ctx, db, live, b.log)
	if err != nil {
		return nil, err
	}
	b.metrics.MustRegister(s.Metrics()...)
	b.task("revocations", s.Run)
	return s, nil
}

// makePolicy returns the permissions of each role, and of each RPC that this
// process serves.
func makePolicy(b *builder) (*auth.Policy, error) {
	roles, err := b.cfg.roles()
	if err != nil {
		return nil, err
	}
	return auth.NewPolicy(roles, protoNames(&b.cfg)...)
}

// makeGate returns the gRPC server: each call is authenticated, authorised,
// measured and logged before its handler runs.
func makeGate(b *builder, internal *auth.Internal, policy *auth.Policy, db records.DB, revoked *revocation.Set) (*rpc.Gate, error) {
	verifier, err := auth.NewVerifier(auth.OIDCConfig{
		Issuer: b.cfg.Auth.Issuer, Audience: b.cfg.Auth.Audience, OrgClaim: b.cfg.Auth.OrgClaim, Plaintext: b.cfg.Auth.PlaintextIssuer,
	}, internal)
	if err != nil {
		return nil, err
	}
	denials := newDenials(db, b.log)
	b.task("denials", denials.run)
	return rpc.New(rpc.Config{
		Verifier: verifier, Revocations: revoked, Policy: policy, Open: edge.OpenMethods(), Logger: b.log,
		Metrics: rpc.NewMetrics(b.metrics), Denied: denials.add, Judged: guard.Judged, Opened: guard.Open,
		Limits: rpc.Limits{Subject: b.cfg.Limits.Subject, Org: b.cfg.Limits.Org},
	})
}

// makeEdge returns the API: the gRPC server and plain HTTP routes on one port.
func makeEdge(b *builder, gate *rpc.Gate, lis net.Listener) (*edge.Server, error) {
	secured, err := b.cfg.serverTLS(b.log, b.cfg.Listen.TLS.ClientCA, "h2", "http/1.1")
	if err != nil {
		return nil, err
	}
	s := edge.New(edge.Config{
		GRPC: gate.Server(), Enter: gate.Enter, WhileValid: gate.WhileValid, Origins: b.cfg.Tunnel.Origins, Hosts: b.cfg.Listen.Hosts, TLS: secured,
		Limits: guard.Limits{
			PerAddress: b.cfg.Limits.Connections, Untrusted: b.cfg.Limits.Untrusted, UntrustedPerAddress: b.cfg.Limits.UntrustedPerAddress,
		},
		Grace: b.cfg.Shutdown, Version: Version(), Metrics: b.metrics, Logger: b.log,
	})
	if b.opts.Issuer != nil {
		b.opts.Issuer(s.Mux())
	}
	b.task("api", func(ctx context.Context) error { return s.Run(ctx, lis) })
	return s, nil
}

// clients connects this process's services to other services.
type clients struct {
	cfg      *Config
	log      *slog.Logger
	edge     *edge.Server
	internal *auth.Internal
	closer   func(func() error)
}

// dial returns a connection to a service: in memory if this process runs it,
// else to its address. Calls carry a service token of the service as, for the
// organisation of the principal in their context.
func (p *clients) dial(service, address, as string) (*grpc.ClientConn, error) {
	token := grpc.WithPerRPCCredentials(p.internal.Credentials(as))
	var conn *grpc.ClientConn
	var err error
	switch {
	case p.cfg.runs(service):
		conn, err = p.edge.Dial(grpc.WithTransportCredentials(insecure.NewCredentials()), token)
	case address == "":
		return nil, fmt.Errorf("remote.%s: this process does not run the %s service; set its address", service, service)
	default:
		var transport credentials.TransportCredentials
		if transport, err = p.cfg.clientTLS(p.log, address); err == nil {
			conn, err = grpc.NewClient(address, grpc.WithTransportCredentials(transport), token)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", service, err)
	}
	p.closer(conn.Close)
	return conn, nil
}

// roles returns the configured roles, or the built-in ones.
func (c *Config) roles() (auth.Roles, error) {
	if len(c.Auth.Roles) == 0 {
		return auth.DefaultRoles(), nil
	}
	roles := make(auth.Roles, len(c.Auth.Roles))
	for role, names := range c.Auth.Roles {
		for _, name := range names {
			perm, err := auth.ParsePermission(name)
			if err != nil {
				return nil, err
			}
			roles[role] = append(roles[role], perm)
		}
	}
	return roles, nil
}
