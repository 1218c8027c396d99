package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// tlsLook is how often the files of a TLS configuration are looked at, while
// there are handshakes.
const tlsLook = time.Second

// tlsFiles are a certificate with its key, and the CAs of the other side. They
// are read again when they change: a certificate is renewed without a restart.
// It is safe for concurrent use.
type tlsFiles struct {
	cert, key, ca string // paths; an empty one is not used
	log           *slog.Logger

	mu     sync.Mutex // guards what follows
	looked time.Time
	stamp  string
	pair   *tls.Certificate
	pool   *x509.CertPool
}

// current returns what the files hold. If they cannot be read, it logs that and
// returns what they held before, or the error if that is nothing.
func (f *tlsFiles) current(ctx context.Context) (*tls.Certificate, *x509.CertPool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.looked) < tlsLook {
		return f.pair, f.pool, nil
	}
	stamp, err := f.state()
	if err == nil && stamp != f.stamp {
		err = f.read()
	}
	switch {
	case err != nil && f.stamp == "":
		return nil, nil, err
	case err != nil:
		f.log.ErrorContext(ctx, "new TLS files cannot be used; the old ones stay", "error", err) // which names the file
	case f.stamp != "" && stamp != f.stamp:
		f.log.InfoContext(ctx, "TLS files read again", "certificate", f.cert, "key", f.key, "ca", f.ca)
	}
	if err == nil {
		f.stamp = stamp
	}
	f.looked = time.Now()
	return f.pair, f.pool, nil
}

// state returns a text that changes when one of the files does.
func (f *tlsFiles) state() (string, error) {
	var state strings.Builder
	for _, path := range []string{f.cert, f.key, f.ca} {
		if path == "" {
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&state, "%s %d %d\n", path, info.Size(), info.ModTime().UnixNano())
	}
	return state.String(), nil
}

// read reads the files.
func (f *tlsFiles) read() error {
	var pair *tls.Certificate
	var pool *x509.CertPool
	if f.cert != "" {
		p, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return fmt.Errorf("certificate %s with key %s: %w", f.cert, f.key, err)
		}
		pair = &p
	}
	if f.ca != "" {
		raw, err := os.ReadFile(f.ca)
		if err != nil {
			return err
		}
		pool = x509.NewCertPool()
		if !pool.AppendCertsFromPEM(raw) {
			return fmt.Errorf("%s holds no certificate in PEM", f.ca)
		}
	}
	f.pair, f.pool = pair, pool
	return nil
}

// serverTLS returns how a listener terminates TLS, nil if it does not. If ca is
// not "", clients must show a certificate that a CA of that file has signed.
func (c *Config) serverTLS(log *slog.Logger, ca string, protocols ...string) (*tls.Config, error) {
	if c.Listen.TLS.Cert == "" {
		return nil, nil // no TLS is no error
	}
	files := &tlsFiles{cert: c.Listen.TLS.Cert, key: c.Listen.TLS.Key, ca: ca, log: log}
	if _, _, err := files.current(context.Background()); err != nil {
		return nil, fmt.Errorf("listen.tls: %w", err)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			pair, pool, err := files.current(hello.Context())
			if err != nil {
				return nil, err
			}
			one := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: protocols, Certificates: []tls.Certificate{*pair}}
			if pool != nil {
				one.ClientAuth, one.ClientCAs = tls.RequireAndVerifyClientCert, pool
			}
			return one, nil
		},
	}, nil
}

// clientTLS returns how this process calls the relay process at address, a
// host:port.
func (c *Config) clientTLS(log *slog.Logger, address string) (credentials.TransportCredentials, error) {
	t := &c.Remote.TLS
	if t.CA == "" {
		return insecure.NewCredentials(), nil
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return nil, fmt.Errorf("remote: %q: want host:port", address)
	}
	files := &tlsFiles{cert: t.Cert, key: t.Key, ca: t.CA, log: log}
	if _, _, err := files.current(context.Background()); err != nil {
		return nil, fmt.Errorf("remote.tls: %w", err)
	}
	return credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS12,
		GetClientCertificate: func(ask *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, _, err := files.current(ask.Context())
			if pair == nil {
				pair = new(tls.Certificate) // none to show
			}
			return pair, err
		},
		// The CAs may change while this configuration is used, so the server's
		// certificate is verified below, as crypto/tls would.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			_, pool, err := files.current(context.Background())
			if err != nil {
				return err
			}
			return verifyServer(state, host, pool)
		},
	}), nil
}

// verifyServer verifies the chain of a server's certificate, and that it is for
// host, a name or an IP address.
func verifyServer(state tls.ConnectionState, host string, roots *x509.CertPool) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("the server shows no certificate")
	}
	between := x509.NewCertPool()
	for _, cert := range state.PeerCertificates[1:] {
		between.AddCert(cert)
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: host})
	return err
}
