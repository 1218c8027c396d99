package app

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// What would be open to strangers is refused with one line that names the way
// out, unless the operator says that it is meant.
func TestOpenToStrangers(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*Config)
		says []string // nil: accepted
	}{
		"loopback":            {func(*Config) {}, nil},
		"localhost":           {func(c *Config) { c.Listen.API = "localhost:1" }, nil},
		"every address":       {func(c *Config) { c.Listen.API = "0.0.0.0:8080" }, []string{"listen.api", "listen.tls.cert", "listen.plaintext"}},
		"no address":          {func(c *Config) { c.Listen.API = ":8080" }, []string{"listen.api"}},
		"a network's":         {func(c *Config) { c.Listen.Admin = "10.0.0.5:8081" }, []string{"listen.admin"}},
		"IPv6":                {func(c *Config) { c.Listen.Admin = "[::]:8081" }, []string{"listen.admin"}},
		"the switch":          {func(c *Config) { c.Listen.API, c.Listen.Plaintext = "0.0.0.0:8080", true }, nil},
		"TLS":                 {func(c *Config) { c.Listen.API, c.Listen.TLS.Cert, c.Listen.TLS.Key = "0.0.0.0:8080", "c", "k" }, nil},
		"half of TLS":         {func(c *Config) { c.Listen.TLS.Cert = "c" }, []string{"both cert and key"}},
		"clients' CA alone":   {func(c *Config) { c.Listen.TLS.ClientCA = "ca" }, []string{"need TLS"}},
		"issuer":              {func(c *Config) { c.Auth.Issuer = "http://sso.example.org" }, []string{"auth.issuer", "auth.plaintext_issuer"}},
		"issuer, switch":      {func(c *Config) { c.Auth.Issuer, c.Auth.PlaintextIssuer = "http://sso.example.org", true }, nil},
		"issuer, here":        {func(c *Config) { c.Auth.Issuer = "http://localhost:8080/realm" }, nil},
		"internal calls":      {func(c *Config) { c.Remote.Turn = "turn:8080" }, []string{"remote.turn", "remote.tls.ca"}},
		"internal calls, TLS": {func(c *Config) { c.Remote.Turn, c.Remote.TLS.CA = "turn:8080", "ca" }, nil},
		"half of their TLS":   {func(c *Config) { c.Remote.TLS.CA, c.Remote.TLS.Cert = "ca", "c" }, []string{"remote.tls"}},
	} {
		cfg := Default()
		cfg.Auth.Issuer, cfg.Blob.Endpoint, cfg.Blob.AccessKey = "https://sso.example.org", "http://s3", "a"
		cfg.LiveKit.Key, cfg.LiveKit.Secret = "k", "s"
		c.edit(&cfg)
		err := cfg.Check()
		if c.says == nil {
			require.NoError(t, err, name)
			continue
		}
		require.Error(t, err, name)
		require.NotContains(t, strings.TrimSpace(err.Error()), "\n", name)
		for _, says := range c.says {
			require.ErrorContains(t, err, says, name)
		}
	}
}

func TestSwitchesAreFlags(t *testing.T) {
	c, err := load(t, "limits: {subject: 7}", "--listen.plaintext", "--limits.org=9", "--listen.hosts=a.example,b.example")
	require.NoError(t, err)
	require.True(t, c.Listen.Plaintext)
	require.Equal(t, 7, c.Limits.Subject)
	require.Equal(t, 9, c.Limits.Org)
	require.Equal(t, []string{"a.example", "b.example"}, c.Listen.Hosts)
	t.Setenv("RELAY_AUTH_PLAINTEXT_ISSUER", "true")
	c, err = load(t, "")
	require.NoError(t, err)
	require.True(t, c.Auth.PlaintextIssuer)
	require.Positive(t, c.Limits.Subject)
}

// authority signs certificates.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	made int64
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir(), made: 1}
	var err error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, a.key.Public(), a.key)
	require.NoError(t, err)
	a.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	a.write("ca.pem", "CERTIFICATE", der)
	return a
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) write(name, kind string, der []byte) {
	require.NoError(a.t, os.WriteFile(a.path(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

// issue writes NAME.pem and NAME.key of localhost and returns the serial number.
func (a *authority) issue(name string) int64 {
	a.made++
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(a.made), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, key.Public(), a.key)
	require.NoError(a.t, err)
	raw, err := x509.MarshalECPrivateKey(key)
	require.NoError(a.t, err)
	a.write(name+".pem", "CERTIFICATE", der)
	a.write(name+".key", "EC PRIVATE KEY", raw)
	return a.made
}

// A renewed certificate is served without a restart, a broken one changes
// nothing, and with client_ca nobody comes in without a certificate.
func TestTLSFilesAreReadAgain(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	first := a.issue("server")
	a.issue("client")
	stranger.issue("client")
	var cfg Config
	cfg.Listen.TLS.Cert, cfg.Listen.TLS.Key = a.path("server.pem"), a.path("server.key")
	quiet := slog.New(slog.DiscardHandler)
	secured, err := cfg.serverTLS(quiet, a.path("ca.pem"), "h2")
	require.NoError(t, err)
	lis, err := net.Listen("tcp", "localhost:0")
	require.NoError(t, err)
	srv := grpc.NewServer()
	healthv1.RegisterHealthServer(srv, health.NewServer())
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(tls.NewListener(lis, secured)) }()
	t.Cleanup(func() { srv.Stop(); <-done })
	_, port, err := net.SplitHostPort(lis.Addr().String())
	require.NoError(t, err)

	host := "localhost"
	call := func(edit func(*Config)) error {
		var c Config
		c.Remote.TLS.CA, c.Remote.TLS.Cert, c.Remote.TLS.Key = a.path("ca.pem"), a.path("client.pem"), a.path("client.key")
		edit(&c)
		transport, err := c.clientTLS(quiet, net.JoinHostPort(host, port))
		require.NoError(t, err)
		conn, err := grpc.NewClient(net.JoinHostPort(host, port), grpc.WithTransportCredentials(transport))
		require.NoError(t, err)
		defer conn.Close()
		_, err = healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
		return err
	}
	require.NoError(t, call(func(*Config) {}))
	for name, edit := range map[string]func(*Config){
		"no certificate": func(c *Config) { c.Remote.TLS.Cert, c.Remote.TLS.Key = "", "" },
		"a stranger's": func(c *Config) {
			c.Remote.TLS.Cert, c.Remote.TLS.Key = stranger.path("client.pem"), stranger.path("client.key")
		},
		"another CA": func(c *Config) { c.Remote.TLS.CA = stranger.path("ca.pem") },
		"plaintext":  func(c *Config) { c.Remote.TLS.CA = "" },
	} {
		require.Equal(t, codes.Unavailable, status.Code(call(edit)), name)
	}
	host = "127.0.0.1" // the server's certificate is for another name
	require.Equal(t, codes.Unavailable, status.Code(call(func(*Config) {})))

	serial := func() int64 {
		pair, err := tls.LoadX509KeyPair(a.path("client.pem"), a.path("client.key"))
		if err != nil {
			return 0
		}
		roots := x509.NewCertPool()
		roots.AddCert(a.cert)
		c, err := tls.Dial("tcp", net.JoinHostPort("localhost", port), &tls.Config{RootCAs: roots, ServerName: "localhost", Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}})
		require.NoError(t, err)
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	require.Equal(t, first, serial())
	require.NoError(t, os.WriteFile(a.path("server.pem"), []byte("broken"), 0o600))
	time.Sleep(tlsLook)
	require.Equal(t, first, serial(), "a broken file changes nothing")
	second := a.issue("server")
	require.Eventually(t, func() bool { return serial() == second }, 20*time.Second, 100*time.Millisecond)

	cfg.Listen.TLS.Cert = a.path("nothing.pem")
	_, err = cfg.serverTLS(quiet, "")
	require.ErrorContains(t, err, "listen.tls: ")
	require.NotContains(t, err.Error(), "\n")
}
