package connection_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	connectionv1 "github.com/openova-io/bp-relay/gen/relay/connection/v1"

	"github.com/openova-io/bp-relay/services/blob"
	"github.com/openova-io/bp-relay/services/blob/s3"
	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/bus/inproc"
	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/connection"
	"github.com/openova-io/bp-relay/services/connection/address"
	"github.com/openova-io/bp-relay/services/connection/engine"
	"github.com/openova-io/bp-relay/services/connection/engine/guacd"
	"github.com/openova-io/bp-relay/services/dev/stack"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/keyring"
	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/sqlite"
)

// shared are the servers that the tests of this binary share.
var shared stacktest.Shared

func TestMain(m *testing.M) {
	code := shared.Run(m)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			_, _ = os.Stderr.WriteString(err.Error())
			code = 1
		}
	}
	os.Exit(code)
}

// otherGuacd names the address of an existing guacd, 1.5.5 or later, with which
// these tests then run instead of the part's guacd 1.3.
const otherGuacd = "RELAY_TEST_GUACD"

// rig holds the records, the object store and the real servers that the services
// of one test share.
type rig struct {
	t       *testing.T
	dir     string
	records records.DB
	bus     bus.Bus
	blob    blob.Store
	keys    *keyring.Keyring
	guacd   *stack.Guacd
	sshd    *stack.SSHD
	log     *lines
}

// lines is a log that a test can read.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), log: new(lines), sshd: shared.SSHD(t)}
	if at := os.Getenv(otherGuacd); at != "" {
		r.guacd = &stack.Guacd{Address: at}
	} else {
		r.guacd = shared.Guacd(t)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(r.log.String())
		}
	})
	db, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(r.dir, "records.db"), Logger: r.logger()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	r.records = db
	b := inproc.New()
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	r.bus = b
	if r.keys, err = keyring.New(bytes.Repeat([]byte{7}, 32)); err != nil {
		t.Fatal(err)
	}
	w := shared.SeaweedFS(t)
	objects, err := s3.New(s3.Config{Endpoint: w.Endpoint, AccessKey: w.AccessKey, SecretKey: w.SecretKey, Region: w.Region, Logger: r.logger()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, objects.Close()) })
	require.NoError(t, objects.EnsureBucket(t.Context(), connection.DefaultBucket))
	r.blob = objects
	return r
}

// engines returns the engines of a relay whose guacd has this address.
func (r *rig) engines(at string) []engine.Engine {
	r.t.Helper()
	c := guacd.Config{Address: at, Answer: 2 * time.Second}
	if os.Getenv(otherGuacd) != "" {
		c.SSH = guacd.Current()
	}
	g, err := guacd.New(c)
	require.NoError(r.t, err)
	return []engine.Engine{g}
}

// loopback is what the operator of the tests allows: their sshd is there.
func loopback(t *testing.T) []address.Exception {
	t.Helper()
	e, err := address.Parse("127.0.0.1")
	require.NoError(t, err)
	return []address.Exception{e}
}

func (r *rig) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// process is one running service with its spool and its tunnel's server.
type process struct {
	*connection.Service
	captures *capture.Manager
	url      string
	stop     func()
}

func (r *rig) start(edit ...func(*connection.Config, *capture.Config)) *process {
	r.t.Helper()
	cc := capture.Config{Dir: filepath.Join(r.dir, "spool"), Records: r.records, Blob: r.blob, Keys: r.keys, Logger: r.logger()}
	sc := connection.Config{Records: r.records, Bus: r.bus, Keys: r.keys, Engines: r.engines(r.guacd.Address), Logger: r.logger(),
		Addresses: address.Rules{Allow: loopback(r.t)}}
	for _, fn := range edit {
		fn(&sc, &cc)
	}
	m, err := capture.New(cc)
	require.NoError(r.t, err)
	sc.Captures = m
	s, err := connection.New(sc)
	require.NoError(r.t, err)
	mux := http.NewServeMux()
	s.Routes(mux)
	srv := httptest.NewServer(mux)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	stopCaptures, cancelCaptures := context.WithCancel(context.Background())
	endedCaptures := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	go func() { endedCaptures <- m.Run(stopCaptures) }()
	var once sync.Once
	p := &process{Service: s, captures: m, url: "ws" + strings.TrimPrefix(srv.URL, "http"), stop: func() {
		once.Do(func() {
			cancel()
			require.NoError(r.t, <-ended)
			cancelCaptures()
			require.NoError(r.t, <-endedCaptures)
			srv.Close()
		})
	}}
	r.t.Cleanup(p.stop)
	return p
}

// as is a context of a caller.
func as(t *testing.T, subject string) context.Context {
	return auth.With(t.Context(), auth.Principal{Subject: subject, Org: "acme"})
}

// define creates a connection to the real sshd.
func (r *rig) define(p *process, id string, edit ...func(*connectionv1.Connection)) string {
	r.t.Helper()
	c := r.definition()
	for _, fn := range edit {
		fn(c)
	}
	out, err := p.CreateConnection(as(r.t, "owner"), &connectionv1.CreateConnectionRequest{Parent: "orgs/acme", ConnectionId: id, Connection: c})
	require.NoError(r.t, err)
	return out.GetConnection().GetName()
}

func (r *rig) definition() *connectionv1.Connection {
	return &connectionv1.Connection{
		DisplayName: "a real shell",
		Target: &connectionv1.Connection_Ssh{Ssh: &connectionv1.SshTarget{
			Hostname: r.sshd.Host, Port: int32(r.sshd.Port), Username: r.sshd.User, HostKey: r.sshd.HostKey,
			Credential: &connectionv1.SshTarget_PrivateKey{PrivateKey: r.sshd.PrivateKey},
		}},
	}
}

func (r *rig) open(p *process, conn, subject string) *connectionv1.OpenSessionResponse {
	r.t.Helper()
	out, err := p.OpenSession(as(r.t, subject), &connectionv1.OpenSessionRequest{Connection: conn, Reason: "test"})
	require.NoError(r.t, err)
	return out
}

// session waits until a session is in the state and returns it.
func (r *rig) session(p *process, name string, want connectionv1.Session_State) *connectionv1.Session {
	r.t.Helper()
	var got *connectionv1.Session
	require.Eventually(r.t, func() bool {
		out, err := p.GetSession(as(r.t, "ann"), &connectionv1.GetSessionRequest{Name: name})
		require.NoError(r.t, err)
		got = out.GetSession()
		return got.GetState() == want
	}, 20*time.Second, 20*time.Millisecond, "session does not become %v", want)
	return got
}

// recorded reads a stream of a stored capture.
func recorded(t *testing.T, p *process, name, stream string) string {
	t.Helper()
	r, err := p.captures.Read(t.Context(), name, stream)
	require.NoError(t, err)
	defer func() { require.NoError(t, r.Close()) }()
	b, err := io.ReadAll(r)
	require.NoError(t, err)
	return string(b)
}
