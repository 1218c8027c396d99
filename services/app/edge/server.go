// Package edge is the API as clients reach it: gRPC, gRPC-Web, Connect and JSON
// on one port, with plain HTTP routes beside them. Native gRPC goes to grpc-go
// directly (package h2split); everything else goes through a transcoder. The
// services of the same process call each other in memory, through the same
// gRPC server and its interceptors.
package edge

import (
	"cmp"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/vanguard"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/encoding/protojson"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"

	"github.com/openova-io/bp-relay/services/app/edge/guard"
	"github.com/openova-io/bp-relay/services/app/edge/h2split"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/hosts"
	"github.com/openova-io/bp-relay/services/internal/rpc"
)

// memoryBuffer is the size of the in-memory listener's buffer per connection
// and direction, in bytes.
const memoryBuffer = 1 << 20

// maxOpenMessage bounds a transcoded message of a method that needs no token, in
// bytes: health and reflection ask for names.
const maxOpenMessage = 4 << 10

// Bounds of net/http's side of the port.
const (
	// headerTimeout is how long a request's headers may take to arrive.
	headerTimeout = 10 * time.Second
	// idleTimeout is how long a connection may wait for its next request.
	idleTimeout = 2 * time.Minute
	// maxHTTPStreams bounds the concurrent requests of one HTTP/2 connection.
	maxHTTPStreams = 128
	// unreadPerConnection and unreadPerRequest bound what is held of bodies that
	// no handler has read yet, in bytes (HTTP/2; HTTP/1.1 holds 4 KiB).
	unreadPerConnection, unreadPerRequest = 256 << 10, 64 << 10
)

// Config says what an edge serves.
type Config struct {
	// GRPC runs all calls, whatever protocol they came by.
	GRPC *grpc.Server
	// Enter lets a call in by its headers, before its body is read:
	// [rpc.Gate.Enter]. If it is nil, only the interceptors of GRPC decide.
	Enter func(ctx context.Context, method string, authorization []string) (context.Context, *apierr.Error)
	// WhileValid calls revoked if the token of the caller in ctx is revoked before
	// stop is called: [rpc.Gate.WhileValid]; nil if no token is ever revoked.
	WhileValid func(ctx context.Context, revoked func()) (stop func())
	// Limits bound the connections to the port.
	Limits guard.Limits
	// TLS, if not nil, is how the port terminates TLS.
	TLS *tls.Config
	// Hosts are the names, besides loopback's and the port's own address, that
	// HTTP requests may be for.
	Hosts []string
	// Metrics counts refused connections; may be nil.
	Metrics prometheus.Registerer
	// Logger is slog.Default() if nil.
	Logger *slog.Logger
	// Origins are the web origins whose pages may call the API.
	Origins []string
	// Body is how long a request's body may take to arrive; 15 s if 0.
	Body time.Duration
	// Grace is how long calls may take to finish after Run's context has ended.
	Grace time.Duration
	// Version is shown on the page at "/".
	Version string
}

// Server is the API of one process. Register services and routes before Run.
type Server struct {
	cfg    Config
	memory *bufconn.Listener
	health *health.Server
	mux    *http.ServeMux
}

// New returns a server with gRPC health and reflection and the page at "/".
func New(cfg Config) *Server {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	s := &Server{cfg: cfg, memory: bufconn.Listen(memoryBuffer), health: health.NewServer(), mux: http.NewServeMux()}
	healthv1.RegisterHealthServer(cfg.GRPC, s.health)
	reflection.Register(cfg.GRPC)
	s.mux.Handle("GET /{$}", newRoot(cfg.Version))
	return s
}

// OpenMethods lists prefixes of the methods that need no token.
func OpenMethods() []string {
	return []string{"/grpc.health.v1.Health/", "/grpc.reflection."}
}

// RegisterService adds a service, as [grpc.ServiceRegistrar] says.
func (s *Server) RegisterService(desc *grpc.ServiceDesc, impl any) {
	s.cfg.GRPC.RegisterService(desc, impl)
}

// Mux returns the plain HTTP routes.
func (s *Server) Mux() *http.ServeMux { return s.mux }

// SetServing sets what gRPC's health service answers for the named services.
func (s *Server) SetServing(yes bool, services ...string) {
	st := healthv1.HealthCheckResponse_NOT_SERVING
	if yes {
		st = healthv1.HealthCheckResponse_SERVING
	}
	for _, name := range services {
		s.health.SetServingStatus(name, st)
	}
}

// Dial returns a client connection to this server in memory.
func (s *Server) Dial(opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///memory", append(opts, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		return s.memory.DialContext(ctx)
	}))...)
}

// Handler returns what serves every request that is not native gRPC.
func (s *Server) Handler() (http.Handler, error) {
	t, err := s.transcoder()
	if err != nil {
		return nil, fmt.Errorf("make transcoder: %w", err)
	}
	methods := s.methods()
	calls := &entry{next: &uniform{next: t, methods: methods}, methods: methods, enter: s.cfg.Enter, whileValid: s.cfg.WhileValid,
		body: cmp.Or(s.cfg.Body, bodyTimeout)}
	return s.named(&cors{next: calls, origins: s.cfg.Origins}), nil
}

// named answers requests for other names than the port's with an error.
func (s *Server) named(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !hosts.Allowed(r, s.cfg.Hosts) {
			refused := apierr.New(codes.NotFound, errorsv1.Reason_REASON_HOST_UNKNOWN, hosts.Refusal)
			apierr.WriteHTTP(&fixedStatus{w, http.StatusMisdirectedRequest}, refused)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// transcoder turns gRPC-Web, Connect and JSON into gRPC.
func (s *Server) transcoder() (*vanguard.Transcoder, error) {
	var services []*vanguard.Service
	for name := range s.cfg.GRPC.GetServiceInfo() {
		size := uint32(rpc.MaxMessage)
		if slices.ContainsFunc(OpenMethods(), func(open string) bool { return strings.HasPrefix("/"+name+"/", open) }) {
			size = maxOpenMessage // of anybody
		}
		services = append(services, vanguard.NewService(name, s.cfg.GRPC, vanguard.WithMaxMessageBufferBytes(size)))
	}
	return vanguard.NewTranscoder(services,
		vanguard.WithUnknownHandler(&routes{s.mux}),
		vanguard.WithDefaultServiceOptions(
			vanguard.WithTargetCodecs(vanguard.CodecProto), vanguard.WithTargetProtocols(vanguard.ProtocolGRPC),
			// So that each compressed message passes gunzip, which bounds it.
			vanguard.WithNoTargetCompression(),
		),
		vanguard.WithCompression(vanguard.CompressionGzip, func() connect.Compressor { return gzip.NewWriter(io.Discard) }, newGunzip),
		vanguard.WithCodec(func(res vanguard.TypeResolver) vanguard.Codec {
			return jsonCodec{vanguard.JSONCodec{
				MarshalOptions:   protojson.MarshalOptions{Resolver: res},
				UnmarshalOptions: protojson.UnmarshalOptions{Resolver: res},
			}}
		}))
}

// methods returns the paths of all RPCs: "/relay.room.v1.RoomService/GetRoom".
func (s *Server) methods() map[string]bool {
	paths := make(map[string]bool)
	for service, info := range s.cfg.GRPC.GetServiceInfo() {
		for _, m := range info.Methods {
			paths["/"+service+"/"+m.Name] = true
		}
	}
	return paths
}

// Run serves on lis and in memory until ctx ends, then lets calls finish for as
// long as Config.Grace. It closes lis.
func (s *Server) Run(ctx context.Context, lis net.Listener) error {
	h, err := s.Handler()
	if err != nil {
		return err
	}
	web := s.newHTTP(h)
	lis = guard.New(lis, s.cfg.Limits, s.cfg.Metrics)
	if s.cfg.TLS != nil {
		lis = tls.NewListener(lis, s.cfg.TLS)
	}
	split := h2split.New(lis)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return split.Run(ctx) })
	g.Go(func() error { return served(s.cfg.GRPC.Serve(s.memory)) })
	g.Go(func() error { return served(s.cfg.GRPC.Serve(guard.NativeGRPC(split.GRPC()))) })
	g.Go(func() error { return served(web.Serve(split.Rest())) })
	g.Go(func() error {
		<-ctx.Done()
		return s.stop(context.WithoutCancel(ctx), web)
	})
	return g.Wait()
}

// stop lets calls finish for as long as the grace period, then ends them.
func (s *Server) stop(ctx context.Context, web *http.Server) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Grace)
	defer cancel()
	s.health.Shutdown()
	late := context.AfterFunc(ctx, s.cfg.GRPC.Stop)
	defer late()
	if err := web.Shutdown(ctx); err != nil {
		s.cfg.GRPC.Stop() // transcoded calls still run, and GracefulStop cannot drain them
		return web.Close()
	}
	s.cfg.GRPC.GracefulStop()
	return nil
}

// served returns nil if a server ended because it was stopped.
func served(err error) error {
	if err == nil || errors.Is(err, http.ErrServerClosed) || errors.Is(err, grpc.ErrServerStopped) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return fmt.Errorf("API server: %w", err)
}

func (s *Server) newHTTP(h http.Handler) *http.Server {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler: h, Protocols: p, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: rpc.MaxHeaders,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxHTTPStreams, MaxReceiveBufferPerConnection: unreadPerConnection, MaxReceiveBufferPerStream: unreadPerRequest,
		},
		ConnContext: guard.WithConn,
		ConnState: func(c net.Conn, state http.ConnState) {
			if state == http.StateHijacked { // a tunnel, which has rules of its own
				guard.Trust(c)
			}
		},
		ErrorLog: slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelDebug),
	}
}
