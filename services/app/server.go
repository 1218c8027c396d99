package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"connectrpc.com/vanguard"
	"connectrpc.com/vanguard/vanguardgrpc"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/h2split"
	"github.com/openova-io/bp-relay/services/internal/rpc"
)

// memoryBuffer is the in-memory listener's buffer per connection and
// direction, in bytes.
const memoryBuffer = 1 << 20

// server is the one API of this process: gRPC over memory for our own
// services, and gRPC, gRPC-Web, Connect and JSON on one port for everybody
// else, with the services' plain HTTP routes beside it.
type server struct {
	grpc   *grpc.Server
	memory *bufconn.Listener
	health *health.Server
	mux    *http.ServeMux
	// origins are the web origins whose pages may call the API.
	origins []string
}

func newServer(g *grpc.Server) *server {
	s := &server{grpc: g, memory: bufconn.Listen(memoryBuffer), health: health.NewServer(), mux: http.NewServeMux()}
	healthv1.RegisterHealthServer(g, s.health)
	reflection.Register(g)
	return s
}

// openMethods need no token.
func openMethods() []string {
	return []string{"/grpc.health.v1.Health/", "/grpc.reflection."}
}

// dial returns a client connection for one of our services: over memory where
// it runs here, else to its address. Calls carry a service token for the
// organisation of the principal in their context.
func (s *server) dial(here bool, address, as string, internal *auth.Internal) (*grpc.ClientConn, error) {
	target, opts := address, []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithPerRPCCredentials(internal.Credentials(as)),
	}
	if here {
		target = "passthrough:///memory"
		opts = append(opts, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return s.memory.DialContext(ctx)
		}))
	}
	conn, err := grpc.NewClient(target, opts...)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", target, err)
	}
	return conn, nil
}

// handler transcodes what is not gRPC and sends the rest to the routes.
func (s *server) handler() (http.Handler, error) {
	t, err := vanguardgrpc.NewTranscoder(s.grpc,
		vanguard.WithUnknownHandler(s.mux),
		// A message is held in memory before anybody has looked at its token:
		// the transcoder's own bound is 4 GiB.
		vanguard.WithDefaultServiceOptions(vanguard.WithMaxMessageBufferBytes(rpc.MaxMessage)),
		vanguard.WithCodec(func(res vanguard.TypeResolver) vanguard.Codec {
			return jsonCodec{vanguard.JSONCodec{
				MarshalOptions:   protojson.MarshalOptions{Resolver: res},
				UnmarshalOptions: protojson.UnmarshalOptions{Resolver: res},
			}}
		}))
	if err != nil {
		return nil, fmt.Errorf("make transcoder: %w", err)
	}
	return &cors{next: &edge{next: t, methods: s.methods()}, origins: s.origins}, nil
}

// methods are the paths of all RPCs here: "/relay.room.v1.RoomService/GetRoom".
func (s *server) methods() map[string]bool {
	paths := make(map[string]bool)
	for service, info := range s.grpc.GetServiceInfo() {
		for _, m := range info.Methods {
			paths["/"+service+"/"+m.Name] = true
		}
	}
	return paths
}

// run serves until ctx ends, then lets calls finish for as long as grace.
func (s *server) run(ctx context.Context, lis net.Listener, grace time.Duration) error {
	h, err := s.handler()
	if err != nil {
		return err
	}
	web := newHTTP(h)
	split := h2split.New(lis)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return split.Run(ctx) })
	g.Go(func() error { return served(s.grpc.Serve(s.memory)) })
	g.Go(func() error { return served(s.grpc.Serve(split.GRPC())) })
	g.Go(func() error { return served(web.Serve(split.Rest())) })
	g.Go(func() error {
		<-ctx.Done()
		return s.stop(context.WithoutCancel(ctx), web, grace)
	})
	return g.Wait()
}

// stop lets calls finish for as long as grace, then cuts them off.
func (s *server) stop(ctx context.Context, web *http.Server, grace time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	s.health.Shutdown()
	late := context.AfterFunc(ctx, s.grpc.Stop)
	defer late()
	if err := web.Shutdown(ctx); err != nil {
		s.grpc.Stop() // transcoded calls are still on: they cannot be drained
		return web.Close()
	}
	s.grpc.GracefulStop()
	return nil
}

// served takes the ordinary end of a server for none.
func served(err error) error {
	if err == nil || errors.Is(err, http.ErrServerClosed) || errors.Is(err, grpc.ErrServerStopped) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return fmt.Errorf("API server: %w", err)
}

func newHTTP(h http.Handler) *http.Server {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	return &http.Server{Handler: h, Protocols: p, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
}
