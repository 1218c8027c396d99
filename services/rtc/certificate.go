package rtc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// certificate is a self-signed DTLS certificate (RFC 8827 section 6.5). All
// participants of an [Engine] share one: making it costs more than everything else
// that a join prepares.
type certificate struct {
	tls         tls.Certificate
	fingerprint string // as in SDP: "sha-256 AB:CD:..."
}

// newCertificate makes a certificate that is valid for a week.
func newCertificate() (*certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "WebRTC"},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(7 * 24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	return &certificate{tls: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, fingerprint: fingerprint(der)}, nil
}

// fingerprint returns a DER certificate's fingerprint as in SDP (RFC 8122 section 5).
func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	hex := strings.ToUpper(fmt.Sprintf("% x", sum[:]))
	return "sha-256 " + strings.ReplaceAll(hex, " ", ":")
}
