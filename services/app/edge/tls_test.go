package edge_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/openova-io/bp-relay/services/app/edge"
)

// The port speaks everything over TLS that it speaks without, and nothing
// without once it has TLS.
func TestEverythingOverTLS(t *testing.T) {
	lender := httptest.NewTLSServer(http.NotFoundHandler()) // of a certificate
	defer lender.Close()
	roots := x509.NewCertPool()
	roots.AddCert(lender.Certificate())
	d := newDoor(t, edge.Config{TLS: &tls.Config{Certificates: lender.TLS.Certificates, NextProtos: []string{"h2", "http/1.1"}}})

	conn, err := grpc.NewClient(d.addr, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots})))
	require.NoError(t, err)
	defer conn.Close()
	for range 3 {
		_, err = healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
		require.NoError(t, err)
	}
	for _, http2 := range []bool{false, true} {
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, Protocols: new(http.Protocols)}
		tr.Protocols.SetHTTP1(!http2)
		tr.Protocols.SetHTTP2(http2)
		for range 2 {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+d.addr+"/v1/orgs/acme/rooms", nil)
			require.NoError(t, err)
			req.Header.Set("Authorization", "Bearer "+d.token(time.Minute))
			resp, err := tr.RoundTrip(req)
			require.NoError(t, err)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, http.StatusNotImplemented, resp.StatusCode, string(body))
			require.Equal(t, http2, resp.ProtoMajor == 2)
		}
		tr.CloseIdleConnections()
	}
	c, err := net.Dial("tcp", d.addr)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: "+d.addr+"\r\n\r\n")
	require.NoError(t, err)
	answer, _ := io.ReadAll(c)
	require.NotContains(t, string(answer), "HTTP/1.1 200")
}
