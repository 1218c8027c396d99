package h2split_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/openova-io/bp-relay/services/app/edge/h2split"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs both servers behind one port.
func serve(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := h2split.New(lis)
	ctx, cancel := context.WithCancel(t.Context())
	g := grpc.NewServer()
	healthv1.RegisterHealthServer(g, health.NewServer())
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	web := &http.Server{Protocols: p, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto+" "+r.Header.Get("content-type"))
	})}
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Run(ctx) })
	wg.Go(func() { _ = g.Serve(s.GRPC()) })
	wg.Go(func() { _ = web.Serve(s.Rest()) })
	t.Cleanup(func() {
		cancel()
		g.Stop()
		_ = web.Close()
		wg.Wait()
	})
	return lis.Addr().String()
}

func TestNativeGRPC(t *testing.T) {
	conn, err := grpc.NewClient(serve(t), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	for range 3 {
		resp, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
		require.NoError(t, err)
		require.Equal(t, healthv1.HealthCheckResponse_SERVING, resp.GetStatus())
	}
}

func TestEverythingElse(t *testing.T) {
	addr := serve(t)
	for name, c := range map[string]struct {
		http2             bool
		contentType, want string
	}{
		"HTTP/1.1":            {false, "application/json", "HTTP/1.1 application/json"},
		"HTTP/1.1 gRPC-Web":   {false, "application/grpc-web+proto", "HTTP/1.1 application/grpc-web+proto"},
		"HTTP/2 Connect":      {true, "application/proto", "HTTP/2.0 application/proto"},
		"HTTP/2 gRPC-Web":     {true, "application/grpc-web+proto", "HTTP/2.0 application/grpc-web+proto"},
		"HTTP/2 long headers": {true, "text/" + strings.Repeat("x", 20<<10), ""},
	} {
		tr := &http.Transport{Protocols: new(http.Protocols)}
		tr.Protocols.SetHTTP1(!c.http2)
		tr.Protocols.SetUnencryptedHTTP2(c.http2)
		for range 2 {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/", strings.NewReader("{}"))
			require.NoError(t, err)
			req.Header.Set("content-type", c.contentType)
			resp, err := tr.RoundTrip(req)
			require.NoError(t, err, name)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err, name)
			require.NoError(t, resp.Body.Close())
			if c.want != "" {
				require.Equal(t, c.want, string(body), name)
			} else {
				require.True(t, strings.HasPrefix(string(body), "HTTP/2.0 text/xxx"), name)
			}
		}
		tr.CloseIdleConnections()
	}
}

func TestClientsThatSayNothingSensible(t *testing.T) {
	addr := serve(t)
	for name, bytes := range map[string]string{
		"garbage after the preface": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + strings.Repeat("\xff", 64),
		"preface only, then close":  "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		conn, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		_, err = io.WriteString(conn, bytes)
		require.NoError(t, err)
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			require.ErrorIs(t, err, syscall.ENOTCONN, "the server has hung up already")
		}
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(5*time.Second)))
		_, err = io.ReadAll(conn) // the end, or a reset: hung up on either way
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded, name)
		require.NoError(t, conn.Close())
	}
}
