// Package rpc builds the gRPC server that every service registers with, and
// the interceptors that every call passes: recover, trace, request id and log,
// authenticate, authorise, validate, map errors. The same chain runs whether
// the services share one process or not, since they call each other through
// the same server (over memory, in one process).
package rpc

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"buf.build/go/protovalidate"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"

	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
)

const (
	// MaxMessage bounds a request in bytes, in whatever form it comes: the
	// largest field is 64 KiB of metadata.
	MaxMessage = 1 << 20
	// maxStreams bounds the calls that one connection has under way; grpc-go's
	// own default is no bound. Our services' own calls share one connection.
	maxStreams = 1024
)

// streamWorkers are goroutines that take one call after another: their stacks
// have grown already, which was 8 % of the CPU of a join answer. Calls beyond
// them get goroutines of their own.
const streamWorkers = 64

// Config is what a server needs.
type Config struct {
	Verifier *auth.Verifier
	Policy   *auth.Policy
	// Denied is told of each authenticated call that was refused, so that it
	// is entered in the evidence log; may be nil.
	Denied func(ctx context.Context, who auth.Principal, method string, err *apierr.Error)
	// Open lists full method prefixes that need no token: health, reflection.
	Open   []string
	Logger *slog.Logger
	// Metrics counts calls; may be nil.
	Metrics *Metrics
}

type gate struct {
	Config
	validate protovalidate.Validator
}

// NewServer makes the server. Services are registered with it before Serve.
func NewServer(cfg Config) (*grpc.Server, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	v, err := protovalidate.New()
	if err != nil {
		return nil, fmt.Errorf("make validator: %w", err)
	}
	g := &gate{Config: cfg, validate: v}
	return grpc.NewServer(
		grpc.StatsHandler(otelgrpc.NewServerHandler()),
		grpc.UnaryInterceptor(g.unary),
		grpc.StreamInterceptor(g.stream),
		grpc.MaxRecvMsgSize(MaxMessage),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.WaitForHandlers(true),
		grpc.NumStreamWorkers(streamWorkers),
	), nil
}

// open says whether the method needs no token.
func (g *gate) open(method string) bool {
	for _, p := range g.Open {
		if strings.HasPrefix(method, p) {
			return true
		}
	}
	return false
}

func (g *gate) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	started := time.Now()
	id := requestID(ctx)
	var who auth.Principal
	defer func() {
		if p := recover(); p != nil {
			err = g.panicked(ctx, info.FullMethod, id, p)
			resp = nil
		}
		err = g.finish(ctx, info.FullMethod, id, who, started, err)
	}()
	if g.open(info.FullMethod) {
		return handler(ctx, req)
	}
	if ctx, who, err = g.authenticate(ctx); err != nil {
		return nil, err
	}
	if err := g.admit(ctx, who, info.FullMethod, req); err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

func (g *gate) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	started := time.Now()
	ctx := ss.Context()
	id := requestID(ctx)
	var who auth.Principal
	defer func() {
		if p := recover(); p != nil {
			err = g.panicked(ctx, info.FullMethod, id, p)
		}
		err = g.finish(ctx, info.FullMethod, id, who, started, err)
	}()
	if g.open(info.FullMethod) {
		return handler(srv, ss)
	}
	if ctx, who, err = g.authenticate(ctx); err != nil {
		return err
	}
	return handler(srv, &admittedStream{ServerStream: ss, ctx: ctx, who: who, gate: g, method: info.FullMethod})
}

// admittedStream checks each message as it comes, before the handler sees it.
type admittedStream struct {
	grpc.ServerStream
	ctx    context.Context //nolint:containedctx // grpc.ServerStream's Context returns it
	who    auth.Principal
	gate   *gate
	method string
}

func (s *admittedStream) Context() context.Context { return s.ctx }

func (s *admittedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return s.gate.admit(s.ctx, s.who, s.method, m)
}

func (g *gate) panicked(ctx context.Context, method, id string, p any) error {
	g.Logger.ErrorContext(ctx, "a handler panicked", "method", method, "request", id, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	return apierr.New(codes.Internal, errorsv1.Reason_REASON_INTERNAL, "internal error; the operator's log has it under the request id", "request", id)
}

// finish maps the error, logs what is ours, counts, and reports denials.
func (g *gate) finish(ctx context.Context, method, id string, who auth.Principal, started time.Time, err error) error {
	if g.open(method) {
		// Health's and reflection's own answers are part of their protocols: an
		// unknown service is NOT_FOUND (grpc/health/v1).
		g.Metrics.observe(method, status.Code(err), time.Since(started))
		return err
	}
	e := apierr.FromDomain(err)
	code := codes.OK
	if e != nil {
		code = e.Code()
	}
	g.Metrics.observe(method, code, time.Since(started))
	if e == nil {
		return nil
	}
	if e.Reason() == errorsv1.Reason_REASON_INTERNAL {
		g.Logger.ErrorContext(ctx, "call failed", "method", method, "request", id, "error", err)
		e = apierr.New(e.Code(), e.Reason(), e.Message(), "request", id).Because(err)
	} else {
		g.Logger.DebugContext(ctx, "call refused", "method", method, "request", id, "code", e.Code().String(), "reason", apierr.ReasonName(e.Reason()))
	}
	if e.Code() == codes.PermissionDenied && g.Denied != nil {
		g.Denied(context.WithoutCancel(ctx), who, method, e)
	}
	return e.GRPCStatus().Err()
}

// requestID takes the caller's x-request-id where it is sane, else makes one.
func requestID(ctx context.Context) string {
	if v := metadata.ValueFromIncomingContext(ctx, "x-request-id"); len(v) == 1 && len(v[0]) > 0 && len(v[0]) <= 64 && printable(v[0]) {
		return v[0]
	}
	var b [8]byte
	_, _ = rand.Read(b[:]) // crypto/rand never fails: it ends the program instead
	return hex.EncodeToString(b[:])
}

func printable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < 0x21 || r > 0x7e }) < 0
}
