package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	connectionv1 "github.com/openova-io/bp-relay/gen/relay/connection/v1"
	evidencev1 "github.com/openova-io/bp-relay/gen/relay/evidence/v1"
	recordingv1 "github.com/openova-io/bp-relay/gen/relay/recording/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"
	turnv1 "github.com/openova-io/bp-relay/gen/relay/turn/v1"

	"github.com/openova-io/bp-relay/services/blob"
	"github.com/openova-io/bp-relay/services/blob/s3"
	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/bus/inproc"
	"github.com/openova-io/bp-relay/services/bus/redis"
	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/evidence/ledger"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/devissuer"
	"github.com/openova-io/bp-relay/services/internal/keyring"
	"github.com/openova-io/bp-relay/services/internal/rpc"
	"github.com/openova-io/bp-relay/services/store"
	"github.com/openova-io/bp-relay/services/store/postgres"
	"github.com/openova-io/bp-relay/services/store/sqlite"
	"github.com/openova-io/bp-relay/services/turn"
)

// process is what one relay process holds. Modules fill it in the order of
// the graph, then it only runs.
type process struct {
	cfg     Config
	log     *slog.Logger
	metrics *prometheus.Registry

	keys     *keyring.Keyring
	store    store.Store
	bus      bus.Bus
	blob     blob.Store
	internal *auth.Internal
	policy   *auth.Policy
	server   *server
	listener net.Listener
	capture  *capture.Manager
	turn     *turn.Service
	// logKey is the evidence log's public key, "" where this process does not
	// run the evidence service.
	logKey string

	tasks   []task
	closers []func() error
}

// graph is the architecture: which module needs which. The names of services
// equal their flag, their deployment and their metric label.
func graph() map[string]module {
	return map[string]module{
		"keys":   {needs: []string{"store"}, make: makeKeys},
		"store":  {make: makeStore},
		"bus":    {make: makeBus},
		"blob":   {make: makeBlob},
		"server": {needs: []string{"keys", "store"}, make: makeServer},

		"capture": {needs: []string{"keys", "store", "blob"}, make: makeCapture},

		"turn": {needs: []string{"server", "keys", "store"}, make: makeTurn},
		"room": {needs: []string{"server", "store"}, make: makeRoom},

		"recording":  {needs: []string{"server", "store", "bus", "capture"}, make: makeRecording},
		"evidence":   {needs: []string{"server", "keys", "store", "bus", "blob", "capture"}, make: makeEvidence},
		"connection": {needs: []string{"server", "store", "bus", "keys", "capture"}, make: makeConnection},
	}
}

// protoServices are the proto services of each of our services.
func protoServices() map[string]string {
	return map[string]string{
		"room":       roomv1.RoomService_ServiceDesc.ServiceName,
		"recording":  recordingv1.RecordingService_ServiceDesc.ServiceName,
		"connection": connectionv1.ConnectionService_ServiceDesc.ServiceName,
		"turn":       turnv1.TurnService_ServiceDesc.ServiceName,
		"evidence":   evidencev1.EvidenceService_ServiceDesc.ServiceName,
	}
}

// makeKeys loads the master key, and refuses one that the records were not
// begun with.
func makeKeys(ctx context.Context, p *process) (err error) {
	path := p.cfg.Keys.Master
	if path == "" {
		path = p.cfg.path("master.key")
	}
	if p.keys, err = keyring.Load(path); err != nil {
		return err
	}
	if err := ledger.SameKey(ctx, p.store, p.keys); err != nil {
		return fmt.Errorf("master key %s: %w", path, err)
	}
	return nil
}

func makeStore(ctx context.Context, p *process) error {
	url, err := p.cfg.Store.Postgres.Reveal()
	if err != nil {
		return err
	}
	if url != "" {
		if p.store, err = postgres.Open(ctx, postgres.Config{URL: url, Logger: p.log}); err != nil {
			return fmt.Errorf("PostgreSQL does not let us in; check store.postgres: %w", err)
		}
	} else {
		p.store, err = sqlite.Open(ctx, sqlite.Config{Path: p.cfg.path("records.db"), Logger: p.log})
	}
	if err != nil {
		return err
	}
	p.closers = append(p.closers, p.store.Close)
	return nil
}

func makeBus(ctx context.Context, p *process) error {
	url, err := p.cfg.Bus.Redis.Reveal()
	if err != nil {
		return err
	}
	if url == "" {
		p.bus = inproc.New()
	} else {
		redis.LogTo(p.log)
		if p.bus, err = redis.New(redis.Config{URL: url, Logger: p.log}); err != nil {
			return err
		}
		if err := p.bus.Ping(ctx); err != nil {
			return errors.Join(fmt.Errorf("redis does not answer; check bus.redis: %w", err), p.bus.Close())
		}
	}
	p.closers = append(p.closers, p.bus.Close)
	return nil
}

func makeBlob(ctx context.Context, p *process) error {
	secret, err := p.cfg.Blob.SecretKey.Reveal()
	if err != nil {
		return err
	}
	st, err := s3.New(s3.Config{Endpoint: p.cfg.Blob.Endpoint, AccessKey: p.cfg.Blob.AccessKey, SecretKey: secret, Logger: p.log})
	if err != nil {
		return err
	}
	p.blob = st
	p.closers = append(p.closers, st.Close)
	if err := st.Ping(ctx); errors.Is(err, blob.ErrDenied) {
		return fmt.Errorf("the object store at %s refuses our keys; check blob.access_key and blob.secret_key: %w", p.cfg.Blob.Endpoint, err)
	}
	p.tasks = append(p.tasks, task{"buckets", p.ensureBuckets})
	return nil
}

// ensureBuckets makes the buckets as soon as the object store answers: until
// then recording goes on into the spool.
func (p *process) ensureBuckets(ctx context.Context) error {
	for _, bucket := range []string{p.cfg.Blob.Recordings, p.cfg.Blob.Sessions, p.cfg.Blob.Evidence} {
		_, err := backoff.Retry(ctx, func() (struct{}, error) {
			return struct{}{}, p.blob.EnsureBucket(ctx, bucket)
		}, backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, wait time.Duration) {
			p.log.WarnContext(ctx, "bucket not there yet", "bucket", bucket, "again_in", wait, "error", err)
		}))
		if err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

func makeServer(ctx context.Context, p *process) error {
	internal, err := internalTokens(&p.cfg)
	if err != nil {
		return err
	}
	p.internal = internal
	verifier, err := auth.NewVerifier(auth.OIDCConfig{
		Issuer: p.cfg.Auth.Issuer, Audience: p.cfg.Auth.Audience, OrgClaim: p.cfg.Auth.OrgClaim,
	}, internal)
	if err != nil {
		return err
	}
	roles, err := p.cfg.roles()
	if err != nil {
		return err
	}
	var names []string
	for service, name := range protoServices() {
		if p.cfg.runs(service) {
			names = append(names, name)
		}
	}
	policy, err := auth.NewPolicy(roles, names...)
	if err != nil {
		return err
	}
	g, err := rpc.NewServer(rpc.Config{
		Verifier: verifier, Policy: policy, Open: openMethods(), Logger: p.log,
		Metrics: rpc.NewMetrics(p.metrics), Denied: denied(p.store, p.log),
	})
	if err != nil {
		return err
	}
	p.policy = policy
	p.server = newServer(g)
	p.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", p.cfg.Listen.API)
	if err != nil {
		return fmt.Errorf("listen on %s: %w; choose another with --listen.api", p.cfg.Listen.API, err)
	}
	if p.cfg.devIssuer {
		iss, err := devissuer.New(p.cfg.Auth.Issuer, p.cfg.path("issuer.pem"))
		if err != nil {
			return err
		}
		iss.Routes(p.server.mux, devIssuerPath)
	}
	p.tasks = append(p.tasks, task{"api", func(ctx context.Context) error {
		return p.server.run(ctx, p.listener, p.cfg.Shutdown)
	}})
	return nil
}

func makeCapture(_ context.Context, p *process) (err error) {
	p.capture, err = capture.New(capture.Config{
		Dir: p.cfg.path("spool"), Store: p.store, Blob: p.blob, Keys: p.keys, Logger: p.log, MaxSpool: p.cfg.Capture.MaxSpool,
	})
	if err != nil {
		return err
	}
	p.metrics.MustRegister(p.capture.Metrics()...)
	p.tasks = append(p.tasks, task{"capture", p.capture.Run})
	return nil
}

func internalTokens(c *Config) (*auth.Internal, error) {
	secret, err := c.Auth.InternalSecret.Reveal()
	if err != nil {
		return nil, err
	}
	raw := []byte(secret)
	if secret == "" { // one process: nobody else has to know it
		raw = make([]byte, 32)
		if _, err := rand.Read(raw); err != nil {
			return nil, fmt.Errorf("random internal secret: %w", err)
		}
	}
	return auth.NewInternal(raw)
}

func (c *Config) roles() (auth.Roles, error) {
	if len(c.Auth.Roles) == 0 {
		return auth.DefaultRoles(), nil
	}
	roles := make(auth.Roles, len(c.Auth.Roles))
	for role, names := range c.Auth.Roles {
		for _, name := range names {
			perm, err := auth.ParsePermission(name)
			if err != nil {
				return nil, err
			}
			roles[role] = append(roles[role], perm)
		}
	}
	return roles, nil
}

// livekitPublic is the WebSocket address that participants get.
func (c *Config) livekitPublic() string {
	if c.LiveKit.PublicURL != "" {
		return c.LiveKit.PublicURL
	}
	return "ws" + strings.TrimPrefix(c.LiveKit.URL, "http")
}

// newProcess prepares a process; modules are made by build.
func newProcess(cfg Config) *process {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return &process{cfg: cfg, log: newLogger(cfg), metrics: reg}
}

func newLogger(cfg Config) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Log.Level)); err != nil {
		level = slog.LevelInfo
	}
	opts := &slog.HandlerOptions{Level: level}
	var out io.Writer = os.Stderr
	if cfg.logs != nil {
		out = cfg.logs
	}
	if cfg.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(out, opts))
	}
	return slog.New(slog.NewTextHandler(out, opts))
}

// liveClient makes calls to LiveKit and other servers of ours.
func liveClient() *http.Client { return &http.Client{Timeout: 5 * time.Second} }
