package connection

import (
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	connectionv1 "github.com/openova-io/bp-relay/gen/relay/connection/v1"

	"github.com/openova-io/bp-relay/services/connection/engine"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/keyring"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/records"
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
	// Secret is the credentials as JSON, encrypted for the record's name. They
	// leave the process towards the engine only.
	Secret []byte `json:"secret"`
}

// credentials is what Secret holds.
type credentials struct {
	Password   string `json:"password,omitempty"`
	PrivateKey string `json:"private_key,omitempty"`
}

// policy says whether sessions are recorded.
type policy string

const (
	required   policy = "required"
	bestEffort policy = "best_effort"
	off        policy = "off"
)

// newDefinition checks a caller's connection and splits off its credentials.
func newDefinition(c *connectionv1.Connection) (d definition, secret credentials, err error) {
	d = definition{DisplayName: c.GetDisplayName(), Retention: c.GetRetentionClass(), MaxDuration: c.GetMaxSessionDuration().AsDuration()}
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
	switch t := c.GetTarget().(type) {
	case *connectionv1.Connection_Ssh:
		d.SSH, secret, err = newSSHTarget(t.Ssh)
	default:
		err = apierr.Field("connection.ssh", "say how to reach the target")
	}
	return d, secret, err
}

// protocol is that of the target.
func (d *definition) protocol() string { return engine.ProtocolSSH }

// hostVerified reports whether the target must prove who it is.
func (d *definition) hostVerified() bool { return !d.SSH.SkipHostKey }

// encrypt puts the credentials into the definition. name is the connection's,
// to which the ciphertext is bound.
func (d *definition) encrypt(keys *keyring.Keyring, name string, c credentials) error {
	plain, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("credentials of %s: %w", name, err)
	}
	if d.Secret, err = keys.Encrypt(name, plain); err != nil {
		return fmt.Errorf("credentials of %s: %w", name, err)
	}
	return nil
}

// target decrypts the credentials and returns what an engine is told.
func (d *definition) target(keys *keyring.Keyring, name string) (engine.Target, error) {
	plain, err := keys.Decrypt(name, d.Secret)
	if err != nil {
		return nil, fmt.Errorf("credentials of %s: %w", name, err)
	}
	var c credentials
	if err := json.Unmarshal(plain, &c); err != nil {
		return nil, fmt.Errorf("credentials of %s: malformed", name) // the cause could quote them
	}
	return d.SSH.target(c), nil
}

// connectionMessage is a definition as callers see it: without credentials.
func connectionMessage(rec records.Record) (*connectionv1.Connection, error) {
	d, err := resource.Body[definition](rec)
	if err != nil {
		return nil, err
	}
	c := &connectionv1.Connection{
		Name: rec.Name, DisplayName: d.DisplayName, RetentionClass: d.Retention, MaxSessionDuration: durationpb.New(d.MaxDuration),
		CreateTime: timestamppb.New(rec.CreateTime), UpdateTime: timestamppb.New(rec.UpdateTime), Etag: resource.Etag(rec),
		Target: &connectionv1.Connection_Ssh{Ssh: d.SSH.message()},
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
