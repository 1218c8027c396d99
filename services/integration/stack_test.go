package integration_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/openova-io/bp-relay/services/dev/issuer"
	"github.com/openova-io/bp-relay/services/dev/part"
	"github.com/openova-io/bp-relay/services/dev/stack"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
	"github.com/openova-io/bp-relay/services/room"
)

const audience = "bp-relay"

// binary builds the relay once per test run.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "relay-bin-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "relay")
	out, err := exec.Command("go", "build", "-o", path, "github.com/openova-io/bp-relay/services/cmd/relay").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build relay: %w: %s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := binary(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// installation is one set of parts and the relay processes on them.
type installation struct {
	t      *testing.T
	env    *stack.Env
	s3     *stack.S3
	lk     *stack.LiveKit
	guacd  *stack.Guacd
	sshd   *stack.SSHD
	issuer *issuer.Issuer
	// procs are the relay processes by service; one process can run several.
	procs map[string]*relay
}

// topologies are the splits into processes that every scenario runs in.
func topologies() map[string][][]string {
	return map[string][][]string{
		"one process":        {{"room", "event", "recording", "connection", "turn", "evidence", "access"}},
		"separate processes": {{"turn"}, {"room"}, {"event"}, {"evidence"}, {"recording"}, {"connection"}, {"access"}},
	}
}

func eachTopology(t *testing.T, run func(t *testing.T, s *installation)) {
	for name, groups := range topologies() {
		t.Run(name, func(t *testing.T) { run(t, newInstallation(t, groups)) })
	}
}

// eachTopologyAtOnce is eachTopology for scenarios that mostly wait.
func eachTopologyAtOnce(t *testing.T, run func(t *testing.T, s *installation)) {
	t.Parallel()
	for name, groups := range topologies() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, newInstallation(t, groups))
		})
	}
}

// newInstallation starts the parts and the relay processes, and waits until the
// TURN gateway is handed out.
func newInstallation(t *testing.T, groups [][]string) *installation {
	t.Helper()
	parts := []part.Name{part.SeaweedFS, part.LiveKit, part.Guacd, part.Stunner, part.SSHD, part.FFmpeg}
	split := len(groups) > 1
	if split {
		parts = append(parts, part.Postgres, part.Redis)
	}
	s := &installation{t: t, env: stacktest.Env(t, parts...), procs: make(map[string]*relay)}
	ctx := t.Context()
	web := http.NewServeMux()
	iss := httptest.NewServer(web)
	t.Cleanup(iss.Close)
	var err error
	s.issuer, err = issuer.New(iss.URL+"/realm", filepath.Join(t.TempDir(), "issuer.pem"))
	require.NoError(t, err)
	s.issuer.Routes(web, "/realm")

	api := make(map[string]string) // by service
	port := func() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(stacktest.Port(t))) }
	for _, g := range groups {
		addr := port()
		for _, name := range g {
			api[name] = addr
		}
	}
	s.s3, err = s.env.StartSeaweedFS(ctx, stack.SeaweedFSConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.s3.Stop()) })
	s.lk, err = s.env.StartLiveKit(ctx, stack.LiveKitConfig{
		Webhooks:  []string{"http://" + api["room"] + room.WebhookPath},
		Overrides: map[string]any{"room": map[string]any{"auto_create": false}},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.lk.Stop()) })
	s.guacd, err = s.env.StartGuacd(ctx, stack.GuacdConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.guacd.Stop()) })
	s.sshd, err = s.env.StartSSHD(ctx, stack.SSHDConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.sshd.Stop()) })

	cds, health := port(), port()
	common := map[string]string{
		"log.level": "info", "auth.issuer": s.issuer.URL(), "auth.audience": audience,
		"blob.endpoint": s.s3.Endpoint, "blob.access_key": s.s3.AccessKey, "blob.secret_key": s.s3.SecretKey,
		"livekit.url": s.lk.URL, "livekit.key": s.lk.Key, "livekit.secret": s.lk.Secret,
		"livekit.media": fmt.Sprintf("127.0.0.1:%d-%d", s.lk.UDPPort, s.lk.UDPPort), "guacd.address": s.guacd.Address,
		"targets.allow": "127.0.0.1", // the sshd
		"turn.cds":      cds, "turn.gateway": "default", "turn.listen": port(), "turn.health": health, "turn.metrics": port(), "turn.echo": port(),
		"remote.room": api["room"], "remote.turn": api["turn"],
	}
	if split {
		s.share(common)
	}
	for _, g := range groups {
		p := &relay{t: t, api: api[g[0]], admin: port(), flags: map[string]string{"services": strings.Join(g, ","), "data": filepath.Join(t.TempDir(), "data")}}
		maps.Copy(p.flags, common)
		p.start()
		t.Cleanup(p.stop)
		for _, name := range g {
			s.procs[name] = p
		}
	}
	st, err := s.env.StartStunnerd(ctx, stack.StunnerdConfig{Origin: "http://" + cds, ID: "relay/default", Health: "http://" + health})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, st.Stop()) })
	return s
}

// share starts the servers that separate processes share.
func (s *installation) share(common map[string]string) {
	pg, err := s.env.StartPostgres(s.t.Context(), stack.PostgresConfig{})
	require.NoError(s.t, err)
	s.t.Cleanup(func() { require.NoError(s.t, pg.Stop()) })
	rd, err := s.env.StartRedis(s.t.Context(), stack.RedisConfig{})
	require.NoError(s.t, err)
	s.t.Cleanup(func() { require.NoError(s.t, rd.Stop()) })
	common["records.postgres"], common["bus.redis"] = pg.URL, rd.URL
	common["keys.master"] = filepath.Join(s.t.TempDir(), "master.key")
	common["auth.internal_secret"] = strings.Repeat("integration", 4)
}

// relay is one relay process.
type relay struct {
	t          *testing.T
	api, admin string
	flags      map[string]string

	cmd    *exec.Cmd
	wait   func() error // until it has exited
	killed bool

	mu  sync.Mutex
	log bytes.Buffer
}

// start starts the process and waits until it is ready.
func (r *relay) start() {
	r.t.Helper()
	path, err := binary()
	require.NoError(r.t, err)
	r.cmd = exec.Command(path, "serve", "--listen.api="+r.api, "--listen.admin="+r.admin)
	r.cmd.Env = os.Environ()
	for k, v := range r.flags { // not as flags: there are secrets among them
		r.cmd.Env = append(r.cmd.Env, "RELAY_"+strings.ToUpper(strings.ReplaceAll(k, ".", "_"))+"="+v)
	}
	r.cmd.Stderr = &lockedWriter{r: r}
	r.wait, err = stacktest.StartChild(r.cmd)
	require.NoError(r.t, err)
	r.killed = false
	require.Eventually(r.t, func() bool {
		resp, err := http.Get("http://" + r.admin + "/readyz")
		if err != nil {
			return false
		}
		return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	}, 60*time.Second, 10*time.Millisecond, "relay does not become ready: %s", r.flags["services"])
}

type lockedWriter struct{ r *relay }

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	return w.r.log.Write(p)
}

// kill ends the process as a crash does.
func (r *relay) kill() {
	r.t.Helper()
	require.NoError(r.t, r.cmd.Process.Kill())
	_ = r.wait() // "signal: killed"
	r.killed = true
}

// stop stops the process as an operator does, and shows its log if the test has
// failed.
func (r *relay) stop() {
	if !r.killed {
		require.NoError(r.t, r.cmd.Process.Signal(syscall.SIGTERM))
		late := time.AfterFunc(30*time.Second, func() { _ = r.cmd.Process.Kill() })
		err := r.wait()
		require.True(r.t, late.Stop(), "relay did not stop within 30 s of SIGTERM")
		require.NoError(r.t, err, "a stop is not a failure")
	}
	if r.t.Failed() {
		r.mu.Lock()
		defer r.mu.Unlock()
		log := r.log.String()
		r.t.Logf("log of %s:\n%s", r.flags["services"], log[max(0, len(log)-20000):])
	}
}

// as returns a context with a token.
func (s *installation) as(org string, roles ...string) context.Context {
	token, err := s.issuer.Token(issuer.Claims{Subject: "it-" + org, Org: org, Roles: roles, Audience: audience, TTL: time.Hour})
	require.NoError(s.t, err)
	return metadata.AppendToOutgoingContext(s.t.Context(), "authorization", "Bearer "+token)
}

// admin may do everything in organisation acme.
func (s *installation) admin() context.Context { return s.as("acme", "relay-admin") }

// dial connects to the process that runs a service.
func (s *installation) dial(service string) *grpc.ClientConn {
	conn, err := grpc.NewClient(s.procs[service].api, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = conn.Close() })
	return conn
}
