package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/openova-io/bp-relay/services/local"
	"github.com/openova-io/bp-relay/services/turn"
)

// The names of [Stack.Processes].
const (
	SFU  = "sfu"
	TURN = "turn"
)

// Config says where a stack is started.
type Config struct {
	// Dir is for configurations, keys and logs; "" takes a temporary folder
	// that Stop removes.
	Dir string
	// Out is told of parts that have to be built first, which takes minutes;
	// nil: nobody.
	Out io.Writer
	// NoTURN starts LiveKit alone, for runs that use no path through TURN.
	NoTURN bool
	// Overrides are put over the top-level keys of LiveKit's configuration.
	Overrides map[string]any
	Logger    *slog.Logger // nil: slog.Default
}

// Stack is a LiveKit and a STUNner data plane that run for us.
type Stack struct {
	// SignalURL ("ws://127.0.0.1:20000") is for clients, URL ("http://...") for
	// the API; Key and Secret are LiveKit's.
	SignalURL, URL, Key, Secret string
	// TURN has the servers by path: UDP, TCP, TLS.
	TURN map[string]TURNServer
	// Processes are the ids, by name: SFU, TURN.
	Processes map[string]int
	// SFUMetrics and TURNMetrics are URLs of Prometheus endpoints.
	SFUMetrics, TURNMetrics string
	// Media is LiveKit's UDP address, where direct media goes and the only one
	// that may be reached through TURN.
	Media netip.AddrPort
	// Logs is the folder of the parts' logs.
	Logs string

	exits chan local.Exit
	stops []func() error // in the order of the starts
}

// Start obtains LiveKit and STUNner where they are missing, starts them and
// waits until both are healthy. The context bounds the start, not the life.
func Start(ctx context.Context, cfg Config) (*Stack, error) {
	s := &Stack{TURN: map[string]TURNServer{}, Processes: map[string]int{}, exits: make(chan local.Exit, 2)}
	if err := s.start(ctx, cfg); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

func (s *Stack) start(ctx context.Context, cfg Config) error {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	env, err := s.environment(ctx, cfg)
	if err != nil {
		return err
	}
	metrics, err := env.Ports.Take()
	if err != nil {
		return err
	}
	// LiveKit binds the port at each of its bind_addresses: loopback only.
	overrides := map[string]any{"prometheus": map[string]any{"port": metrics}}
	maps.Copy(overrides, cfg.Overrides)
	lk, err := env.StartLiveKit(ctx, local.LiveKitConfig{Overrides: overrides})
	if err != nil {
		return err
	}
	s.stops = append(s.stops, lk.Stop)
	s.SignalURL, s.URL, s.Key, s.Secret = lk.SignalURL, lk.URL, lk.Key, lk.Secret
	s.Processes[SFU] = lk.Pid()
	s.SFUMetrics = fmt.Sprintf("http://127.0.0.1:%d/metrics", metrics)
	s.Media = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(lk.UDPPort))
	if cfg.NoTURN {
		return nil
	}
	return s.startTURN(ctx, env, cfg.Logger)
}

// environment makes the folder and obtains the parts.
func (s *Stack) environment(ctx context.Context, cfg Config) (*local.Env, error) {
	names := []local.Name{local.PartLiveKit, local.PartStunner}
	if cfg.NoTURN {
		names = names[:1]
	}
	parts, err := local.Parts(names...)
	if err != nil {
		return nil, err
	}
	var progress local.Progress
	if cfg.Out != nil {
		printer := local.NewPrinter(cfg.Out)
		defer printer.Close()
		progress = func(e local.Event) {
			if e.Stage != local.StageFound { // what is there already is no news
				printer.Report(e)
			}
		}
	}
	tools, err := local.Obtainer{Progress: progress}.Obtain(ctx, parts)
	if err != nil {
		return nil, err
	}
	dir := cfg.Dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "relay-loadtest-"); err != nil {
			return nil, fmt.Errorf("stack: make a folder: %w", err)
		}
		s.stops = append(s.stops, func() error { return os.RemoveAll(dir) })
	} else if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("stack: make its folder: %w", err)
	}
	s.Logs = filepath.Join(dir, "logs")
	ports := new(local.Ports)
	s.stops = append(s.stops, func() error { ports.Release(); return nil })
	return &local.Env{Dir: dir, Tools: tools, Ports: ports, Logger: cfg.Logger, OnExit: func(x local.Exit) {
		select {
		case s.exits <- x:
		default: // there are two parts: the first ends tell enough
		}
	}}, nil
}

func (s *Stack) startTURN(ctx context.Context, env *local.Env, log *slog.Logger) error {
	cert, key, roots, err := certificate(time.Now())
	if err != nil {
		return err
	}
	g, err := gateway(env.Ports, s.Media.Port(), cert, key)
	if err != nil {
		return err
	}
	secret := newSecret()
	config, err := turn.Compile(g, secret, netip.AddrPort{})
	if err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	d, err := serve(config, log)
	if err != nil {
		return err
	}
	s.stops = append(s.stops, d.stop)
	plane, err := env.StartStunnerd(ctx, local.StunnerdConfig{
		Origin: d.server.Origin(), ID: config.ID, Health: "http://" + g.Health.String(), UDPThreads: udpThreads,
	})
	if err != nil {
		return err
	}
	s.stops = append(s.stops, plane.Stop)
	s.Processes[TURN] = plane.Pid()
	s.TURNMetrics = config.Config.Admin.MetricsEndpoint
	s.TURN = servers(g, secret, roots)
	return nil
}

// Exits tells of a part that ended by itself: the run is worth nothing then.
func (s *Stack) Exits() <-chan local.Exit { return s.exits }

// Stop ends all of it, last first, and returns when nothing is left. Stopping
// twice is allowed.
func (s *Stack) Stop() error {
	var errs []error
	for _, stop := range slices.Backward(s.stops) {
		errs = append(errs, stop())
	}
	s.stops = nil
	return errors.Join(errs...)
}
