package connection_test

import (
	"context"
	"encoding/json"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/durationpb"

	connectionv1 "github.com/openova-io/bp-relay/gen/relay/connection/v1"

	"github.com/openova-io/bp-relay/services/blob"
	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/bus/redis"
	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/connection"
	"github.com/openova-io/bp-relay/services/connection/engine/guacd"
	"github.com/openova-io/bp-relay/services/connection/guac"
	"github.com/openova-io/bp-relay/services/records"
)

// up opens a session and waits for its first frame.
func (r *rig) up(p *process, conn string) (*desk, string) {
	r.t.Helper()
	o := r.open(p, conn, "ann")
	d := dial(r.t, p, o.GetTunnelPath(), "ticket="+o.GetTicket())
	d.wait("a first frame", func() bool { return d.syncs > 0 })
	d.ready()
	return d, o.GetSession().GetName()
}

func TestALogoutEndsTheSession(t *testing.T) {
	r := newRig(t)
	p := r.start()
	d, name := r.up(p, r.define(p, "shell"))
	d.enter("exit")
	status, _ := d.closed()
	require.Equal(t, guac.Success, status)
	over := r.session(p, name, connectionv1.Session_STATE_ENDED)
	require.Equal(t, "target_closed", over.GetEndReason())
	require.True(t, recorded(t, p, over.GetCapture(), "output") == d.bytes())
}

func TestABrowserThatLeavesEndsTheSession(t *testing.T) {
	r := newRig(t)
	p := r.start()
	d, name := r.up(p, r.define(p, "shell"))
	require.NoError(t, d.ws.CloseNow())
	over := r.session(p, name, connectionv1.Session_STATE_ENDED)
	require.Equal(t, "client_closed", over.GetEndReason())
	require.True(t, strings.HasPrefix(recorded(t, p, over.GetCapture(), "output"), d.bytes()))
}

func TestAnUnrecordedSessionSaysSo(t *testing.T) {
	r := newRig(t)
	p := r.start()
	d, name := r.up(p, r.define(p, "shell", func(c *connectionv1.Connection) {
		c.Recording = connectionv1.RecordingPolicy_RECORDING_POLICY_OFF
	}))
	d.enter("exit")
	d.closed()
	over := r.session(p, name, connectionv1.Session_STATE_ENDED)
	require.Empty(t, over.GetCapture())
	require.Contains(t, r.opening(name, "session.started"), `"recording":"off"`)
}

// guacd checks the server's key: another key than the definition's must end the
// session before anything is sent to the server.
func TestAnotherHostKeyIsRefused(t *testing.T) {
	r := newRig(t)
	p := r.start()
	other := publicRSA(t)
	conn := r.define(p, "impostor", func(c *connectionv1.Connection) { c.GetSsh().HostKey = other })
	o := r.open(p, conn, "ann")
	d := dial(t, p, o.GetTunnelPath(), "ticket="+o.GetTicket())
	status, told := d.closed()
	require.NotEqual(t, guac.Success, status)
	require.Contains(t, told, "host key")
	over := r.session(p, o.GetSession().GetName(), connectionv1.Session_STATE_ENDED)
	require.Equal(t, "target_error", over.GetEndReason())

	skipped := r.define(p, "anyone", func(c *connectionv1.Connection) {
		c.GetSsh().HostKey, c.GetSsh().InsecureSkipHostKey = "", true
	})
	_, name := r.up(p, skipped)
	require.Contains(t, r.opening(name, "session.opened"), `"host_key_verified":false`)
	require.Contains(t, r.opening(name, "session.started"), `"host_key_verified":false`)
}

func TestAGuacdThatIsNotThere(t *testing.T) {
	r := newRig(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	p := r.start(func(c *connection.Config, _ *capture.Config) { c.Engines = r.engines(l.Addr().String()) })
	o := r.open(p, r.define(p, "shell"), "ann")
	status, told := dial(t, p, o.GetTunnelPath(), "ticket="+o.GetTicket()).closed()
	require.Equal(t, guac.UpstreamUnavailable, status)
	require.NotContains(t, told, l.Addr().String())
	over := r.session(p, o.GetSession().GetName(), connectionv1.Session_STATE_ENDED)
	require.Equal(t, "target_unavailable", over.GetEndReason())
	require.Len(t, over.GetManifestSha256(), 64, "an empty recording is sealed too")
}

func TestARequiredRecordingThatFailsEndsTheSession(t *testing.T) {
	r := newRig(t)
	objects := &gate{Store: r.blob}
	p := r.start(func(_ *connection.Config, c *capture.Config) { c.MaxSpool, c.Blob = 200<<10, objects })
	d, name := r.up(p, r.define(p, "shell"))
	objects.shut.Store(true)
	d.enter("while :; do seq 1000; done")
	status, told := d.closed()
	objects.shut.Store(false)
	require.Equal(t, guac.ServerError, status)
	require.Contains(t, told, "must be recorded")
	over := r.session(p, name, connectionv1.Session_STATE_ENDED)
	require.Equal(t, "recording_failed", over.GetEndReason())
	require.Len(t, over.GetManifestSha256(), 64)
}

// A required session that could not be recorded is not opened: nobody sees a
// session that ends as soon as it has begun.
func TestAFullSpoolOpensNoRequiredSession(t *testing.T) {
	r := newRig(t)
	p := r.start(func(_ *connection.Config, c *capture.Config) {
		c.Blob, c.MaxSpool, c.Quota = away{c.Blob}, 400<<10, capture.Quota{Share: 100 << 10}
	})
	conn := r.define(p, "shell")
	d, _ := r.up(p, conn)
	d.enter("while :; do seq 1000; done")
	status, told := d.closed()
	require.Equal(t, guac.ServerError, status)
	require.Contains(t, told, "must be recorded")
	_, err := p.OpenSession(as(t, "ann"), &connectionv1.OpenSessionRequest{Connection: conn})
	require.Equal(t, "SPOOL_FULL", reasonOf(err))
	o := r.open(p, r.define(p, "free", func(c *connectionv1.Connection) {
		c.Recording = connectionv1.RecordingPolicy_RECORDING_POLICY_BEST_EFFORT
	}), "ann")
	require.NotEmpty(t, o.GetTicket())
}

func TestASessionExpires(t *testing.T) {
	r := newRig(t)
	p := r.start()
	conn := r.define(p, "short", func(c *connectionv1.Connection) { c.MaxSessionDuration = durationpb.New(3 * time.Second) })
	o := r.open(p, conn, "ann")
	status, _ := dial(t, p, o.GetTunnelPath(), "ticket="+o.GetTicket()).closed()
	require.Equal(t, guac.SessionTimeout, status)
	over := r.session(p, o.GetSession().GetName(), connectionv1.Session_STATE_ENDED)
	require.Equal(t, "expired", over.GetEndReason())
	require.InDelta(t, 3, over.GetEndTime().AsTime().Sub(over.GetStartTime().AsTime()).Seconds(), 1)
}

// A lost message must not keep a session alive: its record ends it.
func TestTerminateWithoutTheBus(t *testing.T) {
	r := newRig(t)
	r.bus = mute{r.bus}
	p := r.start()
	d, name := r.up(p, r.define(p, "shell"))
	began := time.Now()
	_, err := p.TerminateSession(as(t, "boss"), &connectionv1.TerminateSessionRequest{Name: name})
	require.NoError(t, err)
	status, _ := d.closed()
	require.Equal(t, guac.SessionClosed, status)
	require.Less(t, time.Since(began), 5*time.Second)
}

type mute struct{ bus.Bus }

func (mute) Publish(context.Context, string, []byte) error { return nil }

// Two processes share the records and a real Redis: one runs the session, the
// other is told to terminate it. Neither adopts the other's session, and one of
// them adopts the session of a dead process.
func TestReplicas(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b, err := redis.New(redis.Config{URL: shared.Redis(t).URL, Prefix: t.Name() + ":", Logger: r.logger()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	r.bus = b
	p := r.start(func(c *connection.Config, _ *capture.Config) { c.Patience = 4 * time.Second })
	q := r.start(func(c *connection.Config, cc *capture.Config) {
		c.Patience, cc.Dir = 4*time.Second, filepath.Join(r.dir, "spool2")
	})
	conn := r.define(p, "shell")
	r.insertActive("orgs/acme/sessions/dead", conn, "")
	d, name := r.up(p, conn)
	require.Equal(t, "interrupted", r.session(q, "orgs/acme/sessions/dead", connectionv1.Session_STATE_ENDED).GetEndReason())
	r.session(q, name, connectionv1.Session_STATE_ACTIVE)

	began := time.Now()
	_, err = q.TerminateSession(as(t, "boss"), &connectionv1.TerminateSessionRequest{Name: name})
	require.NoError(t, err)
	status, _ := d.closed()
	require.Equal(t, guac.SessionClosed, status)
	require.Less(t, time.Since(began), time.Second)
	r.session(q, name, connectionv1.Session_STATE_ENDED)
}

// A process dies and restarts with its spool. Another replica neither ends the
// session meanwhile, nor seals the recording without the spool.
func TestAReplicaLeavesTheSpoolTimeToComeBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b, err := redis.New(redis.Config{URL: shared.Redis(t).URL, Prefix: t.Name() + ":", Logger: r.logger()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	r.bus = b
	const name, capt = "orgs/acme/sessions/dead", "orgs/acme/captures/dead"
	p := r.start(func(_ *connection.Config, c *capture.Config) { c.Blob = away{c.Blob} })
	conn := r.define(p, "shell")
	opened, err := p.captures.Open(t.Context(), capture.Meta{Name: capt, Org: "acme", Owner: name,
		Bucket: connection.DefaultBucket, Retention: "r", Mode: capture.Required, Actor: "ann"})
	require.NoError(t, err)
	out, err := opened.Stream(t.Context(), capture.StreamMeta{Name: "output", MediaType: guacd.MediaOutput, Ext: ".guac"})
	require.NoError(t, err)
	require.NoError(t, out.Append([]byte("4.sync,1.1;")))
	p.stop()
	r.insertActive(name, conn, capt)

	q := r.start(func(_ *connection.Config, c *capture.Config) { c.Dir = filepath.Join(r.dir, "spool2") })
	require.Never(t, func() bool {
		info, err := q.captures.Get(t.Context(), capt)
		return err != nil || info.State != capture.StateActive
	}, 10*time.Second, 200*time.Millisecond, "sealed without the spool") // more than two sweeps and heartbeats
	r.session(q, name, connectionv1.Session_STATE_ACTIVE)
	r.start()
	over := r.session(q, name, connectionv1.Session_STATE_ENDED)
	require.Equal(t, "interrupted", over.GetEndReason())
	require.Equal(t, "4.sync,1.1;", recorded(t, q, over.GetCapture(), "output"))
}

// away is an object store that refuses every put.
type away struct{ blob.Store }

func (away) Put(context.Context, string, string, []byte) error { return blob.ErrUnavailable }

// gate is an object store that refuses every put while it is shut.
type gate struct {
	blob.Store
	shut atomic.Bool
}

func (g *gate) Put(ctx context.Context, bucket, key string, body []byte) error {
	if g.shut.Load() {
		return blob.ErrUnavailable
	}
	return g.Store.Put(ctx, bucket, key, body)
}

// insertActive inserts the record that a dead process leaves.
func (r *rig) insertActive(name, conn, capt string) {
	r.t.Helper()
	body, err := json.Marshal(map[string]any{"connection": conn, "subject": "ann", "replica": "gone", "capture": capt,
		"started": time.Now().UTC(), "max_duration": time.Hour, "ticket_expires": time.Now().UTC()})
	require.NoError(r.t, err)
	require.NoError(r.t, r.records.Update(r.t.Context(), func(tx records.Tx) error {
		_, err := tx.Insert(r.t.Context(), records.Record{Kind: records.Sessions, Name: name, Org: "acme", Parent: conn, State: "ACTIVE", Body: body})
		return err
	}))
}

func TestStoppingEndsSessions(t *testing.T) {
	r := newRig(t)
	p := r.start()
	d, name := r.up(p, r.define(p, "shell"))
	p.stop()
	status, _ := d.closed()
	require.Equal(t, guac.SessionClosed, status)
	q := r.start()
	over := r.session(q, name, connectionv1.Session_STATE_ENDED)
	require.Equal(t, "shutdown", over.GetEndReason())
	require.True(t, recorded(t, q, over.GetCapture(), "output") == d.bytes())
}

// A dead process leaves an ACTIVE record and an unsealed capture.
func TestTheNextProcessEndsWhatADeadOneLeft(t *testing.T) {
	r := newRig(t)
	p := r.start()
	conn := r.define(p, "shell")
	capt, err := p.captures.Open(t.Context(), capture.Meta{Name: "orgs/acme/captures/dead", Org: "acme", Owner: "orgs/acme/sessions/dead",
		Bucket: connection.DefaultBucket, Retention: "r", Mode: capture.Required, Actor: "ann"})
	require.NoError(t, err)
	out, err := capt.Stream(t.Context(), capture.StreamMeta{Name: "output", MediaType: guacd.MediaOutput, Ext: ".guac"})
	require.NoError(t, err)
	require.NoError(t, out.Append([]byte("4.sync,1.1;")))
	p.stop()
	for name, captures := range map[string]string{"dead": "orgs/acme/captures/dead", "early": "orgs/acme/captures/never-opened", "bare": ""} {
		r.insertActive("orgs/acme/sessions/"+name, conn, captures)
	}
	q := r.start()
	over := r.session(q, "orgs/acme/sessions/dead", connectionv1.Session_STATE_ENDED)
	require.Equal(t, "interrupted", over.GetEndReason())
	require.Len(t, over.GetManifestSha256(), 64)
	require.Equal(t, "4.sync,1.1;", recorded(t, q, over.GetCapture(), "output"))
	for _, name := range []string{"early", "bare"} {
		require.Equal(t, "interrupted", r.session(q, "orgs/acme/sessions/"+name, connectionv1.Session_STATE_ENDED).GetEndReason())
	}
}
