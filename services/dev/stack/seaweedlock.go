package stack

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// lockSeaweedFS writes security.toml, which closes every port of SeaweedFS but
// S3 to those who cannot read the folder: writes to volumes and all requests to
// the filer need a JWT, gRPC and the master's HTTP a client certificate. Without
// it any user of the machine lists, writes and deletes all objects. (Reads from a
// volume stay open: they need a file's id, which the filer does not tell, and
// objects are encrypted.)
func lockSeaweedFS(dir string) error {
	keys, err := keepJSON(filepath.Join(dir, "jwt.json"), func() (seaweedKeys, error) {
		return seaweedKeys{Volume: secret() + secret(), Filer: secret() + secret(), Read: secret() + secret()}, nil
	})
	if err != nil {
		return err
	}
	cert, key, err := keepCertificate(dir)
	if err != nil {
		return err
	}
	var b strings.Builder
	section := func(name string, pairs ...string) {
		fmt.Fprintf(&b, "[%s]\n", name)
		for i := 0; i < len(pairs); i += 2 {
			fmt.Fprintf(&b, "%s = %q\n", pairs[i], pairs[i+1])
		}
	}
	section("jwt.signing", "key", keys.Volume)
	section("jwt.filer_signing", "key", keys.Filer)
	section("jwt.filer_signing.read", "key", keys.Read)
	section("grpc", "ca", cert)
	for _, part := range []string{"master", "volume", "filer", "s3", "client"} {
		section("grpc."+part, "cert", cert, "key", key)
	}
	section("https.master", "cert", cert, "key", key, "ca", cert)
	return writeSecret(filepath.Join(dir, "security.toml"), []byte(b.String()))
}

// seaweedKeys sign the JWTs between SeaweedFS's servers.
type seaweedKeys struct{ Volume, Filer, Read string }

// keepCertificate returns the files of a certificate and its key, which it makes
// if they are missing. The certificate is its own authority: SeaweedFS checks the
// chain and no host name, so whoever has the key belongs to it.
func keepCertificate(dir string) (cert, key string, err error) {
	cert, key = filepath.Join(dir, "grpc.crt"), filepath.Join(dir, "grpc.key")
	if _, err := os.Stat(cert); !errors.Is(err, fs.ErrNotExist) {
		return cert, key, err
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", fmt.Errorf("make a certificate: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "seaweedfs of relay-dev"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return "", "", fmt.Errorf("make a certificate: %w", err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", "", fmt.Errorf("make a certificate: %w", err)
	}
	// The certificate comes last: if it is there, its key is.
	if err := writeSecret(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})); err != nil {
		return "", "", err
	}
	return cert, key, writeSecret(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
