// Package connection opens privileged sessions: it keeps the definitions of
// what people may reach, whose addresses and secrets no browser ever learns,
// lets a caller in with a one-time ticket, carries the session between the
// browser and guacd with the recorder in the data path (package tunnel), and
// ends it on every replica when somebody says so. The record of a session is
// the truth about it; the bus only makes things fast.
//
//	PENDING -> ACTIVE -> ENDING -> ENDED
//
// A session is PENDING until its ticket is used and ENDED where it never was.
// It is ACTIVE while its tunnel is up, ENDING while what was recorded is being
// stored and sealed, and ENDED when that is done. A session whose process died
// is ended as "interrupted" by whichever process notices.
package connection

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	connectionv1 "github.com/openova-io/bp-relay/gen/relay/connection/v1"

	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/internal/keyring"
	"github.com/openova-io/bp-relay/services/store"
)

// DefaultBucket is where recordings of sessions go.
const DefaultBucket = "guacamole-recordings"

// Times of the service.
const (
	ticketTTL = 30 * time.Second
	// sweepEvery is how often a process says that it is here and looks for
	// sessions that nobody looks after. It is gone after presenceTTL.
	sweepEvery  = 4 * time.Second
	presenceTTL = 13 * time.Second
	// spoolGrace is how long the host of a process that died has to come back
	// with its spool before another one seals the recording without it.
	spoolGrace = 30 * time.Second
	// pollEvery is how often a running session reads its own record: what ends
	// it when the bus has lost the message.
	pollEvery = 2 * time.Second
	// guacdTimeout bounds connecting to guacd and its handshake.
	guacdTimeout = 15 * time.Second
	// sealPatience is how long a stopping process waits for a recording's
	// seal; the next process goes on with it.
	sealPatience = 3 * time.Second
)

// Config is what the service needs.
type Config struct {
	Store    store.Store
	Bus      bus.Bus
	Keys     *keyring.Keyring
	Captures *capture.Manager
	// Guacd is guacd's address, host:port.
	Guacd string
	// Origins may open the tunnel besides pages of this API's own host:
	// "https://desk.example.com".
	Origins []string
	// Bucket is where recordings go; DefaultBucket where it is "".
	Bucket string
	// Replica names this process among those that share the records; a random
	// name where it is "".
	Replica string
	Logger  *slog.Logger
}

// Service is relay.connection.v1.ConnectionService and its tunnel. It is safe
// for concurrent use.
type Service struct {
	connectionv1.UnimplementedConnectionServiceServer
	cfg Config
	log *slog.Logger

	mu      sync.Mutex
	stopped bool
	running sync.WaitGroup // tunnels and what they leave to be done
	mine    map[string]int // sessions that this process looks after, and how many do
	cancels map[*task]context.CancelFunc

	absent map[string]int // sweeps that a replica was not seen in; the sweep's own
}

// task is one thing that this process does for a session.
type task struct{ session string }

// New makes the service.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Bus == nil || cfg.Keys == nil || cfg.Captures == nil {
		return nil, errors.New("connection: Store, Bus, Keys and Captures are required")
	}
	if _, _, err := net.SplitHostPort(cfg.Guacd); err != nil {
		return nil, fmt.Errorf("connection: guacd's address must be host:port: %w", err)
	}
	if cfg.Bucket == "" {
		cfg.Bucket = DefaultBucket
	}
	if cfg.Replica == "" {
		cfg.Replica = uuid.NewString()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Service{cfg: cfg, log: cfg.Logger.With("service", "connection"),
		mine: map[string]int{}, cancels: map[*task]context.CancelFunc{}, absent: map[string]int{}}, nil
}

// Register adds the service to the server.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	connectionv1.RegisterConnectionServiceServer(r, s)
}

// Routes adds the tunnel's endpoint.
func (s *Service) Routes(mux *http.ServeMux) {
	mux.HandleFunc("GET "+tunnelPrefix+"orgs/{org}/sessions/{session}", s.serveTunnel)
}

// Run looks after sessions that nobody looks after, until ctx ends. Then it
// ends the sessions of this process and waits for them: nothing is carried
// after it returns.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		s.sweep(ctx)
		select {
		case <-ctx.Done():
			s.stop()
			gone, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			_ = s.cfg.Bus.DropPresence(gone, presenceSet, s.cfg.Replica) // it expires
			return nil
		case <-tick.C:
		}
	}
}

// begin takes a session into this process's care until done is called; ctx
// ends when the service stops. ok is false when it is stopping already.
func (s *Service) begin(session string) (ctx context.Context, done func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil, nil, false
	}
	ctx, cancel := context.WithCancel(context.Background())
	t := &task{session: session}
	s.cancels[t] = cancel
	s.mine[session]++
	s.running.Add(1)
	return ctx, func() { s.done(t) }, true
}

func (s *Service) done(t *task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancels[t]()
	delete(s.cancels, t)
	if s.mine[t.session]--; s.mine[t.session] == 0 {
		delete(s.mine, t.session)
	}
	s.running.Done()
}

// stop ends all tasks and waits for them.
func (s *Service) stop() {
	s.mu.Lock()
	s.stopped = true
	for _, cancel := range s.cancels {
		cancel()
	}
	s.mu.Unlock()
	s.running.Wait()
}

func (s *Service) looksAfter(session string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mine[session] > 0
}
