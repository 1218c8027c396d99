package connection_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
	"google.golang.org/protobuf/encoding/protojson"

	connectionv1 "github.com/openova-io/bp-relay/gen/relay/connection/v1"

	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/connection"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/records"
)

// reasonOf is the public reason of a handler's error.
func reasonOf(err error) string {
	if err == nil {
		return ""
	}
	return apierr.ReasonName(apierr.FromDomain(err).Reason())
}

func TestConnections(t *testing.T) {
	r := newRig(t)
	p := r.start()
	ctx := as(t, "owner")
	req := &connectionv1.CreateConnectionRequest{Parent: "orgs/acme", ConnectionId: "shell", Connection: r.definition(), RequestId: uuid.NewString()}
	made, err := p.CreateConnection(ctx, req)
	require.NoError(t, err)
	c := made.GetConnection()
	require.Equal(t, "orgs/acme/connections/shell", c.GetName())
	require.Equal(t, connectionv1.RecordingPolicy_RECORDING_POLICY_REQUIRED, c.GetRecording(), "recorded by default")
	require.Equal(t, "default-365d", c.GetRetentionClass())
	require.EqualValues(t, 8*3600, c.GetMaxSessionDuration().GetSeconds())
	require.Equal(t, r.sshd.HostKey, c.GetSsh().GetHostKey())

	t.Run("a replay gets the first answer, another call does not", func(t *testing.T) {
		again, err := p.CreateConnection(ctx, req)
		require.NoError(t, err)
		require.Equal(t, protojson.Format(made), protojson.Format(again))
		other := &connectionv1.CreateConnectionRequest{Parent: "orgs/acme", ConnectionId: "shell2", Connection: r.definition(), RequestId: req.GetRequestId()}
		_, err = p.CreateConnection(ctx, other)
		require.Equal(t, "REQUEST_ID_REUSED", reasonOf(err))
		other.RequestId, other.ConnectionId = uuid.NewString(), "shell"
		_, err = p.CreateConnection(ctx, other)
		require.Equal(t, "CONNECTION_EXISTS", reasonOf(err))
	})
	t.Run("the remembered request does not help to guess its password", func(t *testing.T) {
		secret := &connectionv1.CreateConnectionRequest{Parent: "orgs/acme", ConnectionId: "guessed", Connection: r.definition(), RequestId: uuid.NewString()}
		secret.Connection.GetSsh().Credential = &connectionv1.SshTarget_Password{Password: "hunter2"}
		_, err := p.CreateConnection(ctx, secret)
		require.NoError(t, err)
		plain, err := resource.RequestKey("acme", connectionv1.ConnectionService_CreateConnection_FullMethodName, secret)
		require.NoError(t, err)
		require.ErrorIs(t, r.records.View(ctx, func(tx records.Tx) error {
			_, err := tx.Replay(ctx, plain)
			return err
		}), records.ErrRequestReused, "remembered under the plain hash of the request, password included")
		_, err = p.DeleteConnection(ctx, &connectionv1.DeleteConnectionRequest{Name: "orgs/acme/connections/guessed"})
		require.NoError(t, err)
	})
	t.Run("secrets are never returned and are encrypted in the record", func(t *testing.T) {
		got, err := p.GetConnection(ctx, &connectionv1.GetConnectionRequest{Name: c.GetName()})
		require.NoError(t, err)
		list, err := p.ListConnections(ctx, &connectionv1.ListConnectionsRequest{Parent: "orgs/acme"})
		require.NoError(t, err)
		require.NoError(t, r.records.View(t.Context(), func(tx records.Tx) error {
			rec, err := tx.Get(t.Context(), records.Connections, c.GetName())
			require.NoError(t, err)
			for _, text := range []string{protojson.Format(got), protojson.Format(list), protojson.Format(made), string(rec.Body)} {
				require.NotContains(t, text, "PRIVATE KEY")
				require.NotContains(t, text, strings.Split(r.sshd.PrivateKey, "\n")[2])
			}
			return nil
		}))
	})
	t.Run("list has pages", func(t *testing.T) {
		for i := range 5 {
			r.define(p, fmt.Sprintf("page-%d", i))
		}
		var names []string
		token := ""
		for {
			out, err := p.ListConnections(ctx, &connectionv1.ListConnectionsRequest{Parent: "orgs/acme", PageSize: 2, PageToken: token})
			require.NoError(t, err)
			for _, c := range out.GetConnections() {
				names = append(names, strings.TrimPrefix(c.GetName(), "orgs/acme/connections/"))
			}
			if token = out.GetNextPageToken(); token == "" {
				break
			}
		}
		require.Equal(t, []string{"page-0", "page-1", "page-2", "page-3", "page-4", "shell"}, names)
		_, err := p.ListConnections(ctx, &connectionv1.ListConnectionsRequest{Parent: "orgs/acme", PageToken: "x"})
		require.Equal(t, "PAGE_TOKEN_INVALID", reasonOf(err))
	})
	t.Run("delete", func(t *testing.T) {
		_, err := p.DeleteConnection(ctx, &connectionv1.DeleteConnectionRequest{Name: c.GetName(), Etag: "99"})
		require.Equal(t, "ETAG_MISMATCH", reasonOf(err))
		opened := r.open(p, c.GetName(), "ann")
		_, err = p.DeleteConnection(ctx, &connectionv1.DeleteConnectionRequest{Name: c.GetName(), Etag: c.GetEtag()})
		require.NoError(t, err)
		_, err = p.DeleteConnection(ctx, &connectionv1.DeleteConnectionRequest{Name: c.GetName()})
		require.Equal(t, "CONNECTION_NOT_FOUND", reasonOf(err))
		_, err = p.GetConnection(ctx, &connectionv1.GetConnectionRequest{Name: c.GetName()})
		require.Equal(t, "CONNECTION_NOT_FOUND", reasonOf(err))
		_, err = p.OpenSession(ctx, &connectionv1.OpenSessionRequest{Connection: c.GetName()})
		require.Equal(t, "CONNECTION_NOT_FOUND", reasonOf(err))
		d := dial(t, p, opened.GetTunnelPath(), "ticket="+opened.GetTicket())
		_, told := d.closed()
		require.Contains(t, told, "deleted")
		over := r.session(p, opened.GetSession().GetName(), connectionv1.Session_STATE_ENDED)
		require.Equal(t, "connection_deleted", over.GetEndReason())
		require.Subset(t, r.leafTypes(c.GetName()), []string{"connection.created", "connection.deleted"})
	})
}

func TestDefinitionsThatAreRefused(t *testing.T) {
	r := newRig(t)
	p := r.start()
	locked, err := ssh.MarshalPrivateKeyWithPassphrase(mustKey(t), "", []byte("hunter2"))
	require.NoError(t, err)
	cases := map[string]func(*connectionv1.SshTarget){
		"no host key":           func(c *connectionv1.SshTarget) { c.HostKey = "" },
		"a host key and a skip": func(c *connectionv1.SshTarget) { c.InsecureSkipHostKey = true },
		"not a host key":        func(c *connectionv1.SshTarget) { c.HostKey = "ssh-rsa not-base64" },
		"two host keys":         func(c *connectionv1.SshTarget) { c.HostKey += "\n" + c.GetHostKey() },
		"no credential":         func(c *connectionv1.SshTarget) { c.Credential = nil },
		"an empty password":     func(c *connectionv1.SshTarget) { c.Credential = &connectionv1.SshTarget_Password{} },
		"not a key":             func(c *connectionv1.SshTarget) { c.Credential = &connectionv1.SshTarget_PrivateKey{PrivateKey: "x"} },
		"an ECDSA key":          func(c *connectionv1.SshTarget) { c.Credential = keyOf(t, mustKey(t)) },
		"an Ed25519 key":        func(c *connectionv1.SshTarget) { c.Credential = keyOf(t, ed25519.NewKeyFromSeed(make([]byte, 32))) },
		"an Ed25519 host key": func(c *connectionv1.SshTarget) {
			c.HostKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0yd3cQ0hHJ3jLr8uFnV0m1UHqA8v3lm3Wc2gIzJ7aB"
		},
		"an encrypted key": func(c *connectionv1.SshTarget) {
			c.Credential = &connectionv1.SshTarget_PrivateKey{PrivateKey: string(pem.EncodeToMemory(locked))}
		},
	}
	if os.Getenv(otherGuacd) != "" { // which can use these
		delete(cases, "an ECDSA key")
		delete(cases, "an Ed25519 key")
		delete(cases, "an Ed25519 host key")
	}
	for name, edit := range cases {
		t.Run(name, func(t *testing.T) {
			c := r.definition()
			edit(c.GetSsh())
			_, err := p.CreateConnection(as(t, "owner"), &connectionv1.CreateConnectionRequest{Parent: "orgs/acme", ConnectionId: "x", Connection: c})
			require.Equal(t, "FIELD_INVALID", reasonOf(err))
		})
	}
	for _, host := range []string{"127.1", "2130706433", "0x7f.1", "0x7f000001", "0177.0.0.1", "127.0.0.2", "0.0.0.0", "::1", "::ffff:127.0.0.2",
		"169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "255.255.255.255", "100.100.100.200"} {
		c := r.definition()
		c.GetSsh().Hostname = host
		_, err := p.CreateConnection(as(t, "owner"), &connectionv1.CreateConnectionRequest{Parent: "orgs/acme", ConnectionId: "x", Connection: c})
		require.Equal(t, "FIELD_INVALID", reasonOf(err), host)
		require.ErrorContains(t, err, "ask the operator", host)
	}
	_, err = p.CreateConnection(as(t, "owner"), &connectionv1.CreateConnectionRequest{Parent: "orgs/acme", ConnectionId: "x", Connection: &connectionv1.Connection{}})
	require.Equal(t, "FIELD_INVALID", reasonOf(err))
}

func mustKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return k
}

func keyOf(t *testing.T, key crypto.PrivateKey) *connectionv1.SshTarget_PrivateKey {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(key, "")
	require.NoError(t, err)
	return &connectionv1.SshTarget_PrivateKey{PrivateKey: string(pem.EncodeToMemory(block))}
}

// publicRSA is a new RSA key as a host would show it.
func publicRSA(t *testing.T) string {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	public, err := ssh.NewPublicKey(k.Public())
	require.NoError(t, err)
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public)))
}

func TestOpenSessionsAreLimited(t *testing.T) {
	r := newRig(t)
	p := r.start(func(c *connection.Config, _ *capture.Config) { c.Limits = connection.Limits{Person: 2, Org: 3} })
	conn := r.define(p, "shell")
	first := r.open(p, conn, "ann").GetSession().GetName()
	r.open(p, conn, "ann")
	open := func(subject string) error {
		_, err := p.OpenSession(as(t, subject), &connectionv1.OpenSessionRequest{Connection: conn})
		return err
	}
	require.Equal(t, "TOO_MANY_SESSIONS", reasonOf(open("ann")))
	require.NoError(t, open("ben"))
	require.Equal(t, "TOO_MANY_SESSIONS", reasonOf(open("cid")), "the organisation's")
	_, err := p.TerminateSession(as(t, "boss"), &connectionv1.TerminateSessionRequest{Name: first})
	require.NoError(t, err)
	require.NoError(t, open("ann"), "one ended")
}

// guacd 1.3 cannot read OpenSSH's own container: the definition converts the key
// to a form that it can read.
func TestAnOpenSSHKeyWorks(t *testing.T) {
	r := newRig(t)
	p := r.start()
	raw, err := ssh.ParseRawPrivateKey([]byte(r.sshd.PrivateKey))
	require.NoError(t, err)
	block, err := ssh.MarshalPrivateKey(raw, "somebody@somewhere")
	require.NoError(t, err)
	require.Equal(t, "OPENSSH PRIVATE KEY", block.Type)
	conn := r.define(p, "shell", func(c *connectionv1.Connection) {
		c.GetSsh().Credential = &connectionv1.SshTarget_PrivateKey{PrivateKey: string(pem.EncodeToMemory(block))}
		c.GetSsh().HostKey += " a comment"
	})
	r.up(p, conn)
}

func TestSessionsAreListedAndLimited(t *testing.T) {
	r := newRig(t)
	p := r.start()
	one, two := r.define(p, "one"), r.define(p, "two")
	ctx := as(t, "ann")
	first := r.open(p, one, "ann").GetSession().GetName()
	second := r.open(p, two, "ann").GetSession().GetName()
	all, err := p.ListSessions(ctx, &connectionv1.ListSessionsRequest{Parent: "orgs/acme"})
	require.NoError(t, err)
	require.Len(t, all.GetSessions(), 2)
	require.Equal(t, first, all.GetSessions()[0].GetName(), "oldest first")
	some, err := p.ListSessions(ctx, &connectionv1.ListSessionsRequest{Parent: "orgs/acme", Connection: two})
	require.NoError(t, err)
	require.Len(t, some.GetSessions(), 1)
	require.Equal(t, second, some.GetSessions()[0].GetName())
	_, err = p.GetSession(ctx, &connectionv1.GetSessionRequest{Name: "orgs/acme/sessions/none"})
	require.Equal(t, "SESSION_NOT_FOUND", reasonOf(err))
	_, err = p.TerminateSession(ctx, &connectionv1.TerminateSessionRequest{Name: "orgs/acme/sessions/none"})
	require.Equal(t, "SESSION_NOT_FOUND", reasonOf(err))

	for err = nil; err == nil; {
		_, err = p.OpenSession(as(t, "mallory"), &connectionv1.OpenSessionRequest{Connection: one})
	}
	require.Equal(t, "RATE_LIMITED", reasonOf(err))
	_, err = p.OpenSession(ctx, &connectionv1.OpenSessionRequest{Connection: one})
	require.NoError(t, err, "other subjects are not limited")
}
