package connection

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	connectionv1 "github.com/openova-io/bp-relay/gen/relay/connection/v1"

	"github.com/openova-io/bp-relay/services/connection/guac"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/keyring"
	"github.com/openova-io/bp-relay/services/store"
)

// Defaults of a definition.
const (
	defaultRetention = "default-365d"
	defaultDuration  = 8 * time.Hour
)

// definition is the body of a connection's record.
type definition struct {
	DisplayName string        `json:"display_name,omitempty"`
	SSH         sshTarget     `json:"ssh"`
	Recording   policy        `json:"recording"`
	Retention   string        `json:"retention"`
	MaxDuration time.Duration `json:"max_duration"`
	// Secret is the credentials as JSON, sealed for the record's name. They
	// leave the process towards guacd only.
	Secret []byte `json:"secret"`
}

type sshTarget struct {
	Hostname    string `json:"hostname"`
	Port        int32  `json:"port"`
	Username    string `json:"username"`
	HostKey     string `json:"host_key,omitempty"`
	SkipHostKey bool   `json:"skip_host_key,omitempty"`
}

// credentials is what Secret holds.
type credentials struct {
	Password   string `json:"password,omitempty"`
	PrivateKey string `json:"private_key,omitempty"`
}

// policy is whether sessions are recorded.
type policy string

const (
	required   policy = "required"
	bestEffort policy = "best_effort"
	off        policy = "off"
)

func newDefinition(c *connectionv1.Connection) (definition, credentials, error) {
	t := c.GetSsh()
	if t == nil {
		return definition{}, credentials{}, apierr.Field("connection.ssh", "say how to reach the target")
	}
	d := definition{
		DisplayName: c.GetDisplayName(), Retention: c.GetRetentionClass(), MaxDuration: c.GetMaxSessionDuration().AsDuration(),
		SSH: sshTarget{Hostname: t.GetHostname(), Port: t.GetPort(), Username: t.GetUsername(), SkipHostKey: t.GetInsecureSkipHostKey()},
	}
	switch c.GetRecording() {
	case connectionv1.RecordingPolicy_RECORDING_POLICY_OFF:
		d.Recording = off
	case connectionv1.RecordingPolicy_RECORDING_POLICY_BEST_EFFORT:
		d.Recording = bestEffort
	default:
		d.Recording = required
	}
	if d.Retention == "" {
		d.Retention = defaultRetention
	}
	if c.GetMaxSessionDuration() == nil {
		d.MaxDuration = defaultDuration
	}
	if d.SSH.Port == 0 {
		d.SSH.Port = 22
	}
	var err error
	if d.SSH.HostKey, err = hostKey(t); err != nil {
		return d, credentials{}, err
	}
	secret := credentials{Password: t.GetPassword()}
	if t.GetPrivateKey() != "" {
		if secret.PrivateKey, err = privateKey(t.GetPrivateKey()); err != nil {
			return d, credentials{}, err
		}
	}
	if secret == (credentials{}) {
		return d, credentials{}, apierr.Field("connection.ssh.credential", "give a password or a private_key")
	}
	return d, secret, nil
}

// hostKey returns the key's type and base64, without options and comment.
// guacd without a host key connects to anyone who answers (common-ssh/key.c).
func hostKey(t *connectionv1.SshTarget) (string, error) {
	switch {
	case t.GetHostKey() == "" && t.GetInsecureSkipHostKey():
		return "", nil
	case t.GetHostKey() == "":
		return "", apierr.Field("connection.ssh.host_key",
			`give the server's public key ("ssh-keyscan -t rsa HOST"), or set insecure_skip_host_key, which every session's evidence will show`)
	case t.GetInsecureSkipHostKey():
		return "", apierr.Field("connection.ssh.insecure_skip_host_key", "there is a host_key: leave one of them out")
	}
	key, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(t.GetHostKey()))
	if err != nil || len(strings.TrimSpace(string(rest))) > 0 {
		return "", apierr.Field("connection.ssh.host_key", `must be one public key, "ssh-rsa AAAA..."`)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))), nil
}

// privateKey checks a key and brings it into the form that every guacd reads:
// libssh2 before 1.9 knows RSA and ECDSA keys in their own PEM only, not in
// OpenSSH's container. An Ed25519 key stays as it is; guacd 1.3 cannot use it.
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

// seal puts the credentials into the definition.
func (d *definition) seal(keys *keyring.Keyring, name string, c credentials) error {
	plain, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("credentials of %s: %w", name, err)
	}
	if d.Secret, err = keys.Seal(name, plain); err != nil {
		return fmt.Errorf("credentials of %s: %w", name, err)
	}
	return nil
}

// params opens the credentials and returns what guacd is to be told.
func (d *definition) params(keys *keyring.Keyring, name string) (guac.Params, error) {
	plain, err := keys.Open(name, d.Secret)
	if err != nil {
		return nil, fmt.Errorf("credentials of %s: %w", name, err)
	}
	var c credentials
	if err := json.Unmarshal(plain, &c); err != nil {
		return nil, fmt.Errorf("credentials of %s: malformed", name) // the cause could quote them
	}
	return guac.SSH{
		Hostname: d.SSH.Hostname, Port: int(d.SSH.Port), Username: d.SSH.Username,
		Password: c.Password, PrivateKey: c.PrivateKey, HostKey: d.SSH.HostKey,
	}.Params(), nil
}

func parseDefinition(rec store.Record) (definition, error) {
	var d definition
	if err := json.Unmarshal(rec.Body, &d); err != nil {
		return d, fmt.Errorf("connection record %s: %w", rec.Name, err)
	}
	return d, nil
}

// connectionMessage is a definition as callers see it: without its secrets.
func connectionMessage(rec store.Record) (*connectionv1.Connection, error) {
	d, err := parseDefinition(rec)
	if err != nil {
		return nil, err
	}
	c := &connectionv1.Connection{
		Name: rec.Name, DisplayName: d.DisplayName, RetentionClass: d.Retention, MaxSessionDuration: durationpb.New(d.MaxDuration),
		CreateTime: timestamppb.New(rec.CreateTime), UpdateTime: timestamppb.New(rec.UpdateTime), Etag: etag(rec),
		Target: &connectionv1.Connection_Ssh{Ssh: &connectionv1.SshTarget{
			Hostname: d.SSH.Hostname, Port: d.SSH.Port, Username: d.SSH.Username,
			HostKey: d.SSH.HostKey, InsecureSkipHostKey: d.SSH.SkipHostKey,
		}},
	}
	switch d.Recording {
	case off:
		c.Recording = connectionv1.RecordingPolicy_RECORDING_POLICY_OFF
	case bestEffort:
		c.Recording = connectionv1.RecordingPolicy_RECORDING_POLICY_BEST_EFFORT
	default:
		c.Recording = connectionv1.RecordingPolicy_RECORDING_POLICY_REQUIRED
	}
	return c, nil
}

func etag(rec store.Record) string { return strconv.FormatInt(rec.Version, 10) }
