package rpc_test

import (
	"context"
	"log/slog"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/openova-io/bp-relay/services/internal/rpc"
)

// grpc/health/v1: "If the service name is not registered, the server returns
// a NOT_FOUND GRPC status." A prober without a token gets it.
func TestHealthOfAnUnknownService(t *testing.T) {
	srv, err := rpc.NewServer(rpc.Config{Logger: slog.New(slog.DiscardHandler), Open: []string{"/grpc.health.v1.Health/"}})
	require.NoError(t, err)
	healthv1.RegisterHealthServer(srv, health.NewServer())
	lis := bufconn.Listen(1 << 16)
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(lis) }()
	t.Cleanup(func() { srv.Stop(); <-done })
	conn, err := grpc.NewClient("passthrough:///health", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })

	prober := healthv1.NewHealthClient(conn)
	answer, err := prober.Check(t.Context(), &healthv1.HealthCheckRequest{})
	require.NoError(t, err)
	require.Equal(t, healthv1.HealthCheckResponse_SERVING, answer.Status)
	_, err = prober.Check(t.Context(), &healthv1.HealthCheckRequest{Service: "nonesuch"})
	require.Equal(t, codes.NotFound, status.Code(err), err)
}
