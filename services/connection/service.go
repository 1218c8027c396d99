// Package connection opens privileged sessions. It keeps the definitions of
// targets, whose addresses and secrets no browser ever learns; lets a caller in
// with a one-time ticket; runs the session on an engine with the recorder in
// the data path; and ends it on every replica when it is terminated, expires,
// or can no longer be recorded. A session's record is the truth about it; the
// bus only makes things fast. No engine is known here: see package engine.
//
//	PENDING -> ACTIVE -> ENDING -> ENDED
//
// A session is PENDING until its ticket is used, and goes to ENDED if it never
// is. It is ACTIVE while its tunnel is connected, ENDING while its recording is
// being stored and sealed, and ENDED after that. If its process dies, another
// process ends it as "interrupted". The table of all changes is in states.go.
package connection

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"google.golang.org/grpc"

	connectionv1 "github.com/openova-io/bp-relay/gen/relay/connection/v1"

	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/connection/address"
	"github.com/openova-io/bp-relay/services/connection/engine"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/keyring"
	"github.com/openova-io/bp-relay/services/internal/replica"
	"github.com/openova-io/bp-relay/services/internal/task"
	"github.com/openova-io/bp-relay/services/records"
)

// DefaultBucket is the bucket of session recordings.
const DefaultBucket = "guacamole-recordings"

// Times of the service.
const (
	ticketTTL = 30 * time.Second
	// sweepEvery is how often a process looks for sessions that no process runs.
	sweepEvery = 4 * time.Second
	// defaultPatience is how long a process that is not seen is waited for, and
	// spoolless if its recording is sealed, so that its spool could add nothing.
	defaultPatience = 10 * time.Minute
	spoolless       = 15 * time.Second
	// pollEvery is how often a running session reads its own record, which ends
	// it if the bus has lost the message.
	pollEvery = 2 * time.Second
	// sealPatience is how long a stopping process waits for a recording to be
	// sealed; the next process continues.
	sealPatience = 3 * time.Second
)

// Config is what the service needs.
type Config struct {
	Records  records.DB
	Bus      bus.Bus
	Keys     *keyring.Keyring
	Captures *capture.Manager
	// Revocations say whose token is revoked; nil if nobody's can be.
	Revocations Revocations
	// Identify returns whose token authorization headers have: whoever opens a
	// tunnel with one must be the person that got the ticket. If it is nil, only
	// the ticket counts.
	Identify func(ctx context.Context, authorization []string) (auth.Principal, *apierr.Error)
	// Engines are what sessions run on, at least one; each has another
	// subprotocol.
	Engines []engine.Engine
	// Origins are the origins besides this API's own host whose pages may open
	// the tunnel: "https://desk.example.com".
	Origins []string
	// Bucket is where recordings go; DefaultBucket if "".
	Bucket string
	// Patience is how long the process of a session may give no sign of life before
	// another one ends the session and seals its recording, without what is in the
	// spool of that process's host; 10 min if 0.
	Patience time.Duration
	// Addresses say which targets may be dialled; by default none of this machine.
	Addresses address.Rules
	// Limits bound the sessions that are open at once.
	Limits Limits
	// Logger defaults to slog.Default().
	Logger *slog.Logger
}

// Revocations say whose token is revoked before it expires.
type Revocations interface {
	// Revoked reports whether the token is revoked.
	Revoked(who auth.Principal) bool
	// Watch calls revoked once as soon as the token is revoked, at once if it is
	// already. After stop has returned, revoked does not run and will not.
	Watch(who auth.Principal, revoked func()) (stop func())
}

// Limits bound how many sessions are open at once: PENDING or ACTIVE.
type Limits struct {
	// Person and Org are the most of one subject and of one organisation; 0 means
	// DefaultPerson and DefaultOrg.
	Person, Org int
}

// The limits if no others are configured.
const (
	DefaultPerson = 100
	DefaultOrg    = 10_000
)

// Service is relay.connection.v1.ConnectionService and its tunnel. It is safe
// for concurrent use.
type Service struct {
	connectionv1.UnimplementedConnectionServiceServer
	cfg Config
	log *slog.Logger

	engines map[string]engine.Engine // by subprotocol
	tasks   *task.Group              // tunnels and the sealing of abandoned recordings, by session
	replica *replica.Replica         // this process among those that share the records
}

// New makes the service. It starts nothing; call Run.
func New(cfg Config) (*Service, error) {
	if cfg.Records == nil || cfg.Bus == nil || cfg.Keys == nil || cfg.Captures == nil {
		return nil, errors.New("connection: Records, Bus, Keys and Captures are required")
	}
	engines := map[string]engine.Engine{}
	for _, e := range cfg.Engines {
		if engines[e.Subprotocol()] != nil {
			return nil, fmt.Errorf("connection: two engines have the subprotocol %q", e.Subprotocol())
		}
		engines[e.Subprotocol()] = e
	}
	if len(engines) == 0 {
		return nil, errors.New("connection: Engines has none")
	}
	if cfg.Bucket == "" {
		cfg.Bucket = DefaultBucket
	}
	if cfg.Patience == 0 {
		cfg.Patience = defaultPatience
	}
	if cfg.Limits.Person <= 0 {
		cfg.Limits.Person = DefaultPerson
	}
	if cfg.Limits.Org <= 0 {
		cfg.Limits.Org = DefaultOrg
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Service{cfg: cfg, log: cfg.Logger.With("service", "connection"),
		engines: engines, tasks: task.New(), replica: cfg.Captures.Replica()}, nil
}

// Register adds the service to a gRPC server.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	connectionv1.RegisterConnectionServiceServer(r, s)
}

// Routes adds the tunnel's endpoint to the mux.
func (s *Service) Routes(mux *http.ServeMux) {
	mux.HandleFunc("GET "+tunnelPrefix+"orgs/{org}/sessions/{session}", s.serveTunnel)
}

// Run adopts sessions whose process has died, until ctx ends. It then ends this
// process's own sessions and waits for them.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		s.sweep(ctx)
		select {
		case <-ctx.Done():
			s.tasks.Stop()
			return nil
		case <-tick.C:
		}
	}
}
