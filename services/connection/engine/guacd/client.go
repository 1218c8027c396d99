package guacd

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/openova-io/bp-relay/services/connection/engine"
	"github.com/openova-io/bp-relay/services/connection/internal/sshprobe"
)

// Client is what the SSH client inside a guacd can do. It depends on the libssh2
// that guacd was built with and on that one's cryptography, which guacd tells
// nobody.
type Client struct {
	// Name says which guacd this is, for people.
	Name string
	// Offers are its algorithms.
	Offers sshprobe.Algorithms
	// Keys are the types of private keys that it can log in with: "RSA", "ECDSA",
	// "Ed25519".
	Keys []string
}

// Debian11 is guacd 1.3 of Debian 11, with libssh2 1.9 on libgcrypt. A test
// compares it with what such a guacd sends. Its host key algorithms and its
// signatures are those that OpenSSH turned off by default in 8.8 (2021), so that
// it reaches no sshd of Debian 12 as that is installed, with a key or a password.
func Debian11() Client {
	return Client{
		Name: "guacd 1.3 of Debian 11 (libssh2 1.9)",
		Offers: sshprobe.Algorithms{
			Kex:     []string{"diffie-hellman-group-exchange-sha256", "diffie-hellman-group-exchange-sha1", "diffie-hellman-group14-sha1", "diffie-hellman-group1-sha1"},
			HostKey: []string{"ssh-rsa", "ssh-dss"},
			Cipher: []string{"aes128-ctr", "aes192-ctr", "aes256-ctr", "aes256-cbc", "rijndael-cbc@lysator.liu.se", "aes192-cbc", "aes128-cbc",
				"blowfish-cbc", "arcfour128", "arcfour", "cast128-cbc", "3des-cbc"},
			MAC: []string{"hmac-sha2-256", "hmac-sha2-512", "hmac-sha1", "hmac-sha1-96", "hmac-md5", "hmac-md5-96", "hmac-ripemd160", "hmac-ripemd160@openssh.com"},
		},
		Keys: []string{"RSA"},
	}
}

// Current is a guacd that was built with libssh2 1.11 on OpenSSL, as the images of
// guacd 1.5.5 and later are.
func Current() Client {
	return Client{
		Name: "guacd with libssh2 1.11",
		Offers: sshprobe.Algorithms{
			Kex: []string{"curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256", "ecdh-sha2-nistp384", "ecdh-sha2-nistp521",
				"diffie-hellman-group-exchange-sha256", "diffie-hellman-group16-sha512", "diffie-hellman-group18-sha512", "diffie-hellman-group14-sha256",
				"diffie-hellman-group14-sha1", "diffie-hellman-group1-sha1", "diffie-hellman-group-exchange-sha1"},
			HostKey: []string{"ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-ed25519", "rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"},
			Cipher: []string{"chacha20-poly1305@openssh.com", "aes256-gcm@openssh.com", "aes128-gcm@openssh.com", "aes256-ctr", "aes192-ctr", "aes128-ctr",
				"aes256-cbc", "aes192-cbc", "aes128-cbc"},
			MAC: []string{"hmac-sha2-256", "hmac-sha2-256-etm@openssh.com", "hmac-sha2-512", "hmac-sha2-512-etm@openssh.com", "hmac-sha1", "hmac-sha1-etm@openssh.com"},
		},
		Keys: []string{"RSA", "ECDSA", "Ed25519"},
	}
}

// Fits refuses what this guacd's SSH client cannot use. guacd itself would ask the
// person for the passphrase of a key that it cannot read, for ever.
func (e *Engine) Fits(t engine.Target) error {
	target, is := t.(engine.SSH)
	if !is {
		return nil
	}
	c := e.cfg.SSH
	if target.PrivateKey != "" {
		if kind := keyKind(target.PrivateKey); !slices.Contains(c.Keys, kind) {
			return &engine.Misfit{Field: "private_key", Why: fmt.Sprintf(
				"%s cannot log in with %s keys; give one of: %s (ssh-keygen -t %s)", c.Name, kind, strings.Join(c.Keys, ", "), strings.ToLower(c.Keys[0]))}
		}
	}
	if target.HostKey != "" {
		if kind, _, _ := strings.Cut(target.HostKey, " "); !hostKeyUsable(kind, c.Offers.HostKey) {
			return &engine.Misfit{Field: "host_key", Why: fmt.Sprintf(
				"%s never asks a server for its %s key, so that it cannot check it; it asks for %s: give the server's key of that type (ssh-keyscan -t rsa HOST)",
				c.Name, kind, strings.Join(c.Offers.HostKey, ", "))}
		}
	}
	return nil
}

// hostKeyUsable reports whether a key of this type can be asked for: an RSA key is
// by three algorithms (RFC 8332).
func hostKeyUsable(kind string, algorithms []string) bool {
	return slices.Contains(algorithms, kind) ||
		kind == "ssh-rsa" && (slices.Contains(algorithms, "rsa-sha2-256") || slices.Contains(algorithms, "rsa-sha2-512"))
}

// keyKind is the type of a private key in PEM, as people call it.
func keyKind(text string) string {
	raw, err := ssh.ParseRawPrivateKey([]byte(text))
	if err != nil {
		return "such"
	}
	switch raw.(type) {
	case *rsa.PrivateKey:
		return "RSA"
	case *ecdsa.PrivateKey:
		return "ECDSA"
	case *ed25519.PrivateKey, ed25519.PrivateKey:
		return "Ed25519"
	default:
		return "such"
	}
}
