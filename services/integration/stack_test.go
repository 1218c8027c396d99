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

	"github.com/openova-io/bp-relay/services/internal/devissuer"
	"github.com/openova-io/bp-relay/services/local"
	"github.com/openova-io/bp-relay/services/local/localtest"
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

// stack is one installation.
type stack struct {
	t      *testing.T
	env    *local.Env
	s3     *local.S3
	lk     *local.LiveKit
	guacd  *local.Guacd
	sshd   *local.SSHD
	issuer *devissuer.Issuer
	// procs are the relay processes by service; in one process all are it.
	procs map[string]*relay
}

// topologies are the shapes that every scenario runs in.
func topologies() map[string][][]string {
	return map[string][][]string{
		"one process":        {{"room", "recording", "connection", "turn", "evidence"}},
		"separate processes": {{"turn"}, {"room"}, {"evidence"}, {"recording"}, {"connection"}},
	}
}

func eachTopology(t *testing.T, run func(t *testing.T, s *stack)) {
	for name, groups := range topologies() {
		t.Run(name, func(t *testing.T) { run(t, newStack(t, groups)) })
	}
}

// eachTopologyAtOnce is for scenarios that mostly wait.
func eachTopologyAtOnce(t *testing.T, run func(t *testing.T, s *stack)) {
	t.Parallel()
	for name, groups := range topologies() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, newStack(t, groups))
		})
	}
}

// newStack starts the parts and the relay processes, and waits until the
// TURN gateway is handed out.
func newStack(t *testing.T, groups [][]string) *stack {
	t.Helper()
	parts := []local.Name{local.PartSeaweedFS, local.PartLiveKit, local.PartGuacd, local.PartStunner, local.PartSSHD, local.PartFFmpeg}
	split := len(groups) > 1
	if split {
		parts = append(parts, local.PartPostgres, local.PartRedis)
	}
	s := &stack{t: t, env: localtest.Env(t, parts...), procs: make(map[string]*relay)}
	ctx := t.Context()
	web := http.NewServeMux()
	iss := httptest.NewServer(web)
	t.Cleanup(iss.Close)
	var err error
	s.issuer, err = devissuer.New(iss.URL+"/realm", filepath.Join(t.TempDir(), "issuer.pem"))
	require.NoError(t, err)
	s.issuer.Routes(web, "/realm")

	api := make(map[string]string) // by service
	port := func() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(localtest.Port(t))) }
	for _, g := range groups {
		addr := port()
		for _, name := range g {
			api[name] = addr
		}
	}
	s.s3, err = s.env.StartSeaweedFS(ctx, local.SeaweedFSConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.s3.Stop()) })
	s.lk, err = s.env.StartLiveKit(ctx, local.LiveKitConfig{
		Webhooks:  []string{"http://" + api["room"] + room.WebhookPath},
		Overrides: map[string]any{"room": map[string]any{"auto_create": false}},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.lk.Stop()) })
	s.guacd, err = s.env.StartGuacd(ctx, local.GuacdConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.guacd.Stop()) })
	s.sshd, err = s.env.StartSSHD(ctx, local.SSHDConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.sshd.Stop()) })

	cds, health := port(), port()
	common := map[string]string{
		"log.level": "info", "auth.issuer": s.issuer.URL(), "auth.audience": audience,
		"blob.endpoint": s.s3.Endpoint, "blob.access_key": s.s3.AccessKey, "blob.secret_key": s.s3.SecretKey,
		"livekit.url": s.lk.URL, "livekit.key": s.lk.Key, "livekit.secret": s.lk.Secret,
		"livekit.media": fmt.Sprintf("127.0.0.1:%d-%d", s.lk.UDPPort, s.lk.UDPPort), "guacd.address": s.guacd.Address,
		"turn.cds": cds, "turn.gateway": "default", "turn.listen": port(), "turn.health": health, "turn.metrics": port(), "turn.echo": port(),
		"peers.room": api["room"], "peers.turn": api["turn"],
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
	st, err := s.env.StartStunnerd(ctx, local.StunnerdConfig{Origin: "http://" + cds, ID: "relay/default", Health: "http://" + health})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, st.Stop()) })
	return s
}

// share starts what separate processes share.
func (s *stack) share(common map[string]string) {
	pg, err := s.env.StartPostgres(s.t.Context(), local.PostgresConfig{})
	require.NoError(s.t, err)
	s.t.Cleanup(func() { require.NoError(s.t, pg.Stop()) })
	rd, err := s.env.StartRedis(s.t.Context(), local.RedisConfig{})
	require.NoError(s.t, err)
	s.t.Cleanup(func() { require.NoError(s.t, rd.Stop()) })
	common["store.postgres"], common["bus.redis"] = pg.URL, rd.URL
	common["keys.master"] = filepath.Join(s.t.TempDir(), "master.key")
	common["auth.internal_secret"] = strings.Repeat("integration", 4)
}

// relay is one relay process.
type relay struct {
	t          *testing.T
	api, admin string
	flags      map[string]string

	mu  sync.Mutex
	cmd *exec.Cmd
	log bytes.Buffer
}

// start starts the process and waits until it is ready.
func (r *relay) start() {
	r.t.Helper()
	path, err := binary()
	require.NoError(r.t, err)
	args := []string{"serve", "--listen.api=" + r.api, "--listen.admin=" + r.admin}
	for k, v := range r.flags {
		args = append(args, "--"+k+"="+v)
	}
	r.cmd = exec.Command(path, args...)
	r.cmd.Stderr = &lockedWriter{r: r}
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(r.t, r.cmd.Start())
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
	_ = r.cmd.Wait() // "signal: killed"
}

// stop ends the process as an operator does; its log is shown when the test
// failed.
func (r *relay) stop() {
	if r.cmd.ProcessState == nil {
		require.NoError(r.t, r.cmd.Process.Signal(syscall.SIGTERM))
		late := time.AfterFunc(30*time.Second, func() { _ = r.cmd.Process.Kill() })
		err := r.cmd.Wait()
		require.True(r.t, late.Stop(), "relay did not stop within 30 s of SIGTERM")
		require.NoError(r.t, err, "a stop is no failure")
	}
	if r.t.Failed() {
		r.mu.Lock()
		defer r.mu.Unlock()
		log := r.log.String()
		r.t.Logf("log of %s:\n%s", r.flags["services"], log[max(0, len(log)-20000):])
	}
}

// as returns a context with a token.
func (s *stack) as(org string, roles ...string) context.Context {
	token, err := s.issuer.Token(devissuer.Claims{Subject: "it-" + org, Org: org, Roles: roles, Audience: audience, TTL: time.Hour})
	require.NoError(s.t, err)
	return metadata.AppendToOutgoingContext(s.t.Context(), "authorization", "Bearer "+token)
}

// admin may do everything in organisation acme.
func (s *stack) admin() context.Context { return s.as("acme", "relay-admin") }

// dial connects to the process that runs a service.
func (s *stack) dial(service string) *grpc.ClientConn {
	conn, err := grpc.NewClient(s.procs[service].api, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = conn.Close() })
	return conn
}
