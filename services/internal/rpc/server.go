// Package rpc builds the gRPC server with which the services register, and the
// interceptors that every call passes: recover, trace, request id and log,
// authenticate, authorise, validate, map errors. The same chain runs whether or
// not the services share a process: within one, they call each other through the
// same server over memory.
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
	// MaxMessage bounds a request in bytes, in any encoding: the largest field
	// is 64 KiB of metadata. grpc-go refuses a longer one before the interceptors
	// run: RESOURCE_EXHAUSTED without ErrorInfo.
	MaxMessage = 1 << 20
	// MaxHeaders bounds the headers of a request in bytes, uncompressed.
	MaxHeaders = 16 << 10
	// maxStreams bounds the concurrent calls of one connection; further ones
	// wait at the client. grpc-go's default is no bound. Calls between relay
	// services share one connection.
	maxStreams = 256
	// readBuffer is the size of a connection's read buffer in bytes.
	readBuffer = 16 << 10
	// idle is how long a connection without calls stays open.
	idle = 15 * time.Minute
)

// streamWorkers is how many goroutines serve one call after another. Their stacks
// have grown already; growing them was 8 % of the CPU of a join answer. Further
// calls get goroutines of their own.
const streamWorkers = 64

// Config is what a server needs.
type Config struct {
	Verifier *auth.Verifier
	Policy   *auth.Policy
	// Revocations say whose token is revoked; nil if nobody's can be.
	Revocations Revocations
	// Denied is called for each authenticated call that was refused, to record
	// it in the evidence log; may be nil.
	Denied func(ctx context.Context, who auth.Principal, method string, err *apierr.Error)
	// Open lists prefixes of the full methods that need no token: health,
	// reflection.
	Open []string
	// Logger is slog.Default() if nil.
	Logger *slog.Logger
	// Metrics counts calls; may be nil.
	Metrics *Metrics
	// Limits bound the calls of one caller; the zero value is no bound.
	Limits Limits
	// Judged is called for each call that was let in or refused by its headers,
	// with a context of its connection; may be nil.
	Judged func(ctx context.Context, in bool)
	// Opened is called for each call that needs no token, before its message is
	// read: it refuses one too many of a connection, or returns what to call at
	// the call's end; may be nil.
	Opened func(ctx context.Context) (release func(), ok bool)
}

// Revocations say whose token is revoked before it expires.
type Revocations interface {
	// Revoked reports whether the caller's token is revoked.
	Revoked(who auth.Principal) bool
	// Watch calls revoked once as soon as the caller's token is revoked, at once if
	// it is already. revoked must not block. After stop has returned, revoked
	// does not run and will not.
	Watch(who auth.Principal, revoked func()) (stop func())
}

// Gate is the server and what every call passes before its handler.
type Gate struct {
	Config
	server   *grpc.Server
	validate protovalidate.Validator
	limits   *limiter
}

// Server returns the gRPC server. Register services with it before Serve.
func (g *Gate) Server() *grpc.Server { return g.server }

// NewServer makes a gate and returns its server.
func NewServer(cfg Config) (*grpc.Server, error) {
	g, err := New(cfg)
	if err != nil {
		return nil, err
	}
	return g.server, nil
}

// New makes the gate.
func New(cfg Config) (*Gate, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	v, err := protovalidate.New()
	if err != nil {
		return nil, fmt.Errorf("make validator: %w", err)
	}
	limits, err := newLimiter(cfg.Limits)
	if err != nil {
		return nil, fmt.Errorf("make limiter: %w", err)
	}
	g := &Gate{Config: cfg, validate: v, limits: limits}
	g.server = grpc.NewServer(
		grpc.InTapHandle(g.tap),
		grpc.StatsHandler(otelgrpc.NewServerHandler()),
		grpc.UnaryInterceptor(g.unary),
		grpc.StreamInterceptor(g.stream),
		grpc.MaxRecvMsgSize(MaxMessage),
		grpc.MaxHeaderListSize(MaxHeaders),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(10*time.Second),
		grpc.ReadBufferSize(readBuffer),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idle, Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.WaitForHandlers(true),
		grpc.NumStreamWorkers(streamWorkers),
	)
	return g, nil
}

// open reports whether the method needs no token.
func (g *Gate) open(method string) bool {
	for _, p := range g.Open {
		if strings.HasPrefix(method, p) {
			return true
		}
	}
	return false
}

func (g *Gate) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
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
	if ctx, who, err = g.authenticate(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	if err := g.admit(ctx, who, info.FullMethod, req); err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

func (g *Gate) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
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
	if ctx, who, err = g.authenticate(ctx, info.FullMethod); err != nil {
		return err
	}
	ctx, end := g.whileValid(ctx, who)
	defer end()
	err = handler(srv, &admittedStream{ServerStream: ss, ctx: ctx, who: who, gate: g, method: info.FullMethod})
	return endedBy(ctx, err)
}

// admittedStream checks each received message before the handler sees it.
type admittedStream struct {
	grpc.ServerStream
	ctx    context.Context //nolint:containedctx // grpc.ServerStream's Context returns it
	who    auth.Principal
	gate   *Gate
	method string
}

func (s *admittedStream) Context() context.Context { return s.ctx }

func (s *admittedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return s.gate.admit(s.ctx, s.who, s.method, m)
}

func (g *Gate) panicked(ctx context.Context, method, id string, p any) error {
	g.Logger.ErrorContext(ctx, "a handler panicked", "method", method, "request", id, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	return apierr.New(codes.Internal, errorsv1.Reason_REASON_INTERNAL, "internal error; the operator's log has it under the request id", "request", id)
}

// finish maps the error, logs internal ones, counts the call, and reports denials.
func (g *Gate) finish(ctx context.Context, method, id string, who auth.Principal, started time.Time, err error) error {
	if g.open(method) {
		// Errors of health and reflection are part of their protocols: an unknown
		// service is NOT_FOUND (grpc/health/v1).
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

// requestID returns the caller's x-request-id, if it is 1 to 64 printable ASCII
// characters, or a new one.
func requestID(ctx context.Context) string {
	if v := metadata.ValueFromIncomingContext(ctx, "x-request-id"); len(v) == 1 && len(v[0]) > 0 && len(v[0]) <= 64 && printable(v[0]) {
		return v[0]
	}
	var b [8]byte
	_, _ = rand.Read(b[:]) // crypto/rand never returns an error: it ends the program
	return hex.EncodeToString(b[:])
}

func printable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < 0x21 || r > 0x7e }) < 0
}
