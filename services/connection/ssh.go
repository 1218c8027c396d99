package connection

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strings"

	"golang.org/x/crypto/ssh"

	connectionv1 "github.com/openova-io/bp-relay/gen/relay/connection/v1"

	"github.com/openova-io/bp-relay/services/connection/engine"
	"github.com/openova-io/bp-relay/services/internal/apierr"
)

// sshTarget is the part of a definition that says how to reach a shell.
type sshTarget struct {
	Hostname    string `json:"hostname"`
	Port        int32  `json:"port"`
	Username    string `json:"username"`
	HostKey     string `json:"host_key,omitempty"`
	SkipHostKey bool   `json:"skip_host_key,omitempty"`
}

// newSSHTarget checks a caller's target and splits off its credentials.
func newSSHTarget(t *connectionv1.SshTarget) (target sshTarget, secret credentials, err error) {
	target = sshTarget{Hostname: t.GetHostname(), Port: t.GetPort(), Username: t.GetUsername(), SkipHostKey: t.GetInsecureSkipHostKey()}
	if target.Port == 0 {
		target.Port = 22
	}
	if target.HostKey, err = hostKey(t); err != nil {
		return target, secret, err
	}
	secret.Password = t.GetPassword()
	if t.GetPrivateKey() != "" {
		if secret.PrivateKey, err = privateKey(t.GetPrivateKey()); err != nil {
			return target, secret, err
		}
	}
	if secret == (credentials{}) {
		return target, secret, apierr.Field("connection.ssh.credential", "give a password or a private_key")
	}
	return target, secret, nil
}

// message is the target as callers see it: without credentials.
func (t sshTarget) message() *connectionv1.SshTarget {
	return &connectionv1.SshTarget{
		Hostname: t.Hostname, Port: t.Port, Username: t.Username,
		HostKey: t.HostKey, InsecureSkipHostKey: t.SkipHostKey,
	}
}

// target is what an engine is told.
func (t sshTarget) target(c credentials) engine.Target {
	return engine.SSH{
		Hostname: t.Hostname, Port: int(t.Port), Username: t.Username,
		Password: c.Password, PrivateKey: c.PrivateKey, HostKey: t.HostKey,
	}
}

// hostKey returns the key's type and base64, without options and comment.
// Without a host key guacd connects to any host that answers
// (common-ssh/key.c).
func hostKey(t *connectionv1.SshTarget) (string, error) {
	switch {
	case t.GetHostKey() == "" && t.GetInsecureSkipHostKey():
		return "", nil
	case t.GetHostKey() == "":
		return "", apierr.Field("connection.ssh.host_key",
			`give the server's public key ("ssh-keyscan -t rsa HOST"), or set insecure_skip_host_key, which every session's evidence will show`)
	case t.GetInsecureSkipHostKey():
		return "", apierr.Field("connection.ssh.insecure_skip_host_key", "host_key is set too: leave one of them out")
	}
	key, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(t.GetHostKey()))
	if err != nil || len(strings.TrimSpace(string(rest))) > 0 {
		return "", apierr.Field("connection.ssh.host_key", `must be one public key, "ssh-rsa AAAA..."`)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))), nil
}

// privateKey checks a key and converts it to the form that every guacd reads:
// guacd 1.3 reads RSA keys only in their own PEM, not in OpenSSH's container nor in
// PKCS #8. Which types of keys work is the engine's to say, see engine.Engine.
func privateKey(text string) (string, error) {
	raw, err := ssh.ParseRawPrivateKey([]byte(text))
	if err != nil {
		return "", apierr.Field("connection.ssh.private_key", "must be an unencrypted private key in PEM").Because(err)
	}
	switch k := raw.(type) {
	case *rsa.PrivateKey:
		return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)})), nil
	case *ecdsa.PrivateKey:
		der, err := x509.MarshalECPrivateKey(k)
		if err != nil {
			return "", apierr.Field("connection.ssh.private_key", "its curve is not supported").Because(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})), nil
	default:
		return text, nil
	}
}
