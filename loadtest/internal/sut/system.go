package sut

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

	"github.com/openova-io/bp-relay/services/dev/part"
	"github.com/openova-io/bp-relay/services/dev/process"
	"github.com/openova-io/bp-relay/services/dev/stack"
	"github.com/openova-io/bp-relay/services/turn"
)

// The names of [System.Processes].
const (
	SFU  = "sfu"
	TURN = "turn"
)

// Config configures Start.
type Config struct {
	// Dir is the folder of configurations, keys and logs; "": a temporary folder
	// that Stop removes.
	Dir string
	// Out gets a line about each part that must be built first, which takes
	// minutes; nil: none.
	Out io.Writer
	// NoTURN starts LiveKit alone, for runs that use no path through TURN.
	NoTURN bool
	// Overrides replaces top-level keys of LiveKit's configuration.
	Overrides map[string]any
	Logger    *slog.Logger // nil: slog.Default
}

// System is a running LiveKit and STUNner data plane.
type System struct {
	// SignalURL ("ws://127.0.0.1:20000") is the URL for clients, URL ("http://...")
	// that of the API; Key and Secret are LiveKit's.
	SignalURL, URL, Key, Secret string
	// TURN has the TURN servers by path: UDP, TCP, TLS.
	TURN map[string]TURNServer
	// Processes has the process ids by name: SFU, TURN.
	Processes map[string]int
	// SFUMetrics and TURNMetrics are URLs of Prometheus endpoints.
	SFUMetrics, TURNMetrics string
	// Media is LiveKit's UDP address: the destination of direct media, and the only
	// address that TURN clients can reach.
	Media netip.AddrPort
	// Logs is the folder of the parts' logs.
	Logs string

	exits chan process.Exit
	stops []func() error // in the order of the starts
}

// Start obtains LiveKit and STUNner if they are missing, starts them and waits
// until both are healthy. ctx bounds the start only; the processes run on after
// it ends.
func Start(ctx context.Context, cfg Config) (*System, error) {
	s := &System{TURN: map[string]TURNServer{}, Processes: map[string]int{}, exits: make(chan process.Exit, 2)}
	if err := s.start(ctx, cfg); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

func (s *System) start(ctx context.Context, cfg Config) error {
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
	lk, err := env.StartLiveKit(ctx, stack.LiveKitConfig{Overrides: overrides})
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
func (s *System) environment(ctx context.Context, cfg Config) (*stack.Env, error) {
	names := []part.Name{part.LiveKit, part.Stunner}
	if cfg.NoTURN {
		names = names[:1]
	}
	parts, err := part.Named(names...)
	if err != nil {
		return nil, err
	}
	var progress part.Progress
	if cfg.Out != nil {
		printer := part.NewPrinter(cfg.Out)
		defer printer.Close()
		progress = printer.Missing
	}
	tools, err := part.Obtainer{Progress: progress}.Obtain(ctx, parts)
	if err != nil {
		return nil, err
	}
	dir := cfg.Dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "relay-loadtest-"); err != nil {
			return nil, fmt.Errorf("sut: make a folder: %w", err)
		}
		s.stops = append(s.stops, func() error { return os.RemoveAll(dir) })
	} else if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("sut: make its folder: %w", err)
	}
	s.Logs = filepath.Join(dir, "logs")
	ports := new(stack.Ports)
	s.stops = append(s.stops, func() error { ports.Release(); return nil })
	return &stack.Env{Dir: dir, Tools: tools, Ports: ports, Logger: cfg.Logger, OnExit: func(x process.Exit) {
		select {
		case s.exits <- x:
		default: // the first exits suffice
		}
	}}, nil
}

func (s *System) startTURN(ctx context.Context, env *stack.Env, log *slog.Logger) error {
	cert, key, roots, err := stack.SelfSigned()
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
		return fmt.Errorf("sut: %w", err)
	}
	d, err := serve(config, log)
	if err != nil {
		return err
	}
	s.stops = append(s.stops, d.stop)
	plane, err := env.StartStunnerd(ctx, stack.StunnerdConfig{
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

// Exits receives each part that exited by itself, which makes the run's result
// void.
func (s *System) Exits() <-chan process.Exit { return s.exits }

// Stop stops all parts in reverse order and waits until they have exited. It
// may be called twice.
func (s *System) Stop() error {
	var errs []error
	for _, stop := range slices.Backward(s.stops) {
		errs = append(errs, stop())
	}
	s.stops = nil
	return errors.Join(errs...)
}
