package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/openova-io/bp-relay/services/local"
	"github.com/openova-io/bp-relay/services/runfile"
	"github.com/openova-io/bp-relay/services/turn"
)

// healthyWithin bounds how long `relay up` waits for the TURN gateway's probe.
const healthyWithin = 20 * time.Second

// upOptions are the flags of `relay up` beside the configuration's.
type upOptions struct {
	dir       string
	config    string
	freePorts bool
	ports     struct{ livekit, livekitUDP, s3, guacd int }
}

func upCommand() *cobra.Command {
	var o upOptions
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run the whole stack on this machine, on loopback, until Ctrl-C",
		Long: `up gets what is missing (the first time takes minutes: LiveKit, SeaweedFS and
STUNner are built from their Go modules into the user's cache, guacd comes from
Debian's packages), starts each part, waits for its own health check, and runs
all services with SQLite and a development issuer. Ctrl-C stops everything.

Each part can be an existing one instead: give its address and keys, and up only
asks whether it works.`,
		Example: `  relay up
  relay up --livekit.url http://10.0.0.5:7880 --livekit.key K --livekit.secret file:/run/livekit
  relay up --blob.endpoint http://s3:8333 --blob.access_key A --blob.secret_key S
  relay up --store.postgres postgres://relay@db/relay --bus.redis redis://cache
  relay up --guacd.address guacd:4822 --auth.issuer https://sso.example.org/realms/acme`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := Load(upDefault(o.dir), orEnv(o.config, "RELAY_CONFIG"), cmd.Flags())
			if err != nil {
				return err
			}
			return Up(cmd.Context(), cfg, o, cmd.OutOrStdout(), nil)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.dir, "dir", ".local", "folder for data, logs and secrets of this run")
	f.StringVar(&o.config, "config", "", "YAML file (env RELAY_CONFIG)")
	f.BoolVar(&o.freePorts, "free-ports", false, "take free ports instead of the usual ones")
	f.IntVar(&o.ports.livekit, "livekit-port", 7880, "port of our LiveKit's API")
	f.IntVar(&o.ports.livekitUDP, "livekit-udp-port", 7882, "port of our LiveKit's media over UDP")
	f.IntVar(&o.ports.s3, "s3-port", 8333, "port of our SeaweedFS's S3 API")
	f.IntVar(&o.ports.guacd, "guacd-port", 4822, "port of our guacd")
	AddFlags(f, upDefault(".local"))
	return cmd
}

// upDefault is the configuration of `relay up`: what is still empty after
// loading is ours to start.
func upDefault(dir string) Config {
	c := Default()
	c.LiveKit.URL, c.Guacd.Address, c.Turn.Gateway = "", "", "default"
	c.Data, c.Log.Level = filepath.Join(dir, "data"), "warn"
	return c
}

// Running is what `relay up` writes beside its data, so that `relay demo` and
// load tests find it.
type Running = runfile.Stack

// Up runs the whole stack until ctx ends or a part fails. ready, where it is
// not nil, is called once everything is healthy.
func Up(ctx context.Context, cfg Config, o upOptions, out io.Writer, ready func(Running)) (err error) {
	ports := new(local.Ports)
	defer ports.Release()
	if o.freePorts {
		if err := cfg.takePorts(ports); err != nil {
			return err
		}
		o.ports.livekit, o.ports.livekitUDP, o.ports.s3, o.ports.guacd = 0, 0, 0, 0
	}
	if err := freeAddresses(ctx, cfg); err != nil {
		return err
	}
	printer := local.NewPrinter(out)
	stack, err := local.Up(ctx, o.stack(cfg, printer.Report))
	printer.Close()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stack.Stop()) }()
	cfg.take(stack)
	return runBeside(ctx, cfg, o, stack, out, ready)
}

// runBeside runs our own process beside the stack, then STUNner's data plane,
// which gets its config from us.
func runBeside(ctx context.Context, cfg Config, o upOptions, stack *local.Stack, out io.Writer, ready func(Running)) error {
	if err := cfg.Check(); err != nil {
		return fmt.Errorf("configuration:\n%w", err)
	}
	p, err := newServing(ctx, cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1)
	go func() { done <- p.run(ctx) }()
	fail := func(err error) error {
		cancel(err)
		return errors.Join(err, <-done)
	}
	if cfg.Turn.Gateway != "" {
		if err := startGateway(ctx, p, stack); err != nil {
			return fail(err)
		}
	}
	run := cfg.describe(stack)
	if err := run.Write(o.dir); err != nil {
		return fail(err)
	}
	defer func() { _ = runfile.Remove(o.dir) }()
	if err := os.WriteFile(filepath.Join(o.dir, "log.vkey"), []byte(p.logKey+"\n"), 0o600); err != nil {
		return fail(fmt.Errorf("keep the log's public key: %w", err))
	}
	welcome(out, o.dir, run, cfg, p)
	if ready != nil {
		ready(run)
	}
	select {
	case x := <-stack.Exits():
		return fail(fmt.Errorf("%w; everything was stopped", x))
	case err := <-done:
		return err
	case <-ctx.Done():
		fmt.Fprintln(out, "\nstopping")
		return <-done
	}
}

func (o upOptions) stack(cfg Config, progress local.Progress) local.Options {
	s := local.Options{Dir: o.dir, Progress: progress, NoStunner: cfg.Turn.Gateway == ""}
	secret, _ := cfg.LiveKit.Secret.Reveal() // an unreadable file is said by the check of the existing server
	s.LiveKit.URL, s.LiveKit.Key, s.LiveKit.Secret = cfg.LiveKit.URL, cfg.LiveKit.Key, secret
	s.LiveKit.Port, s.LiveKit.UDPPort = o.ports.livekit, o.ports.livekitUDP
	s.LiveKit.Webhooks = []string{"http://" + cfg.Listen.API + "/webhooks/livekit"}
	// Rooms are made by us only: a token that outlives its room must not open
	// it again.
	s.LiveKit.Overrides = map[string]any{"room": map[string]any{"auto_create": false}}
	key, _ := cfg.Blob.SecretKey.Reveal()
	s.S3.Endpoint, s.S3.AccessKey, s.S3.SecretKey, s.S3.Port = cfg.Blob.Endpoint, cfg.Blob.AccessKey, key, o.ports.s3
	s.Guacd.Address, s.Guacd.Port = cfg.Guacd.Address, o.ports.guacd
	s.Redis.URL, _ = cfg.Bus.Redis.Reveal()
	s.Postgres.URL, _ = cfg.Store.Postgres.Reveal()
	return s
}

// take fills the configuration with what was started or found.
func (c *Config) take(s *local.Stack) {
	c.LiveKit.URL, c.LiveKit.Key, c.LiveKit.Secret = s.LiveKit.URL, s.LiveKit.Key, Secret(s.LiveKit.Secret)
	if s.LiveKit.UDPPort != 0 {
		c.LiveKit.Media = fmt.Sprintf("127.0.0.1:%d-%d", s.LiveKit.UDPPort, s.LiveKit.UDPPort)
	}
	c.Blob.Endpoint, c.Blob.AccessKey, c.Blob.SecretKey = s.S3.Endpoint, s.S3.AccessKey, Secret(s.S3.SecretKey)
	c.Guacd.Address = s.Guacd.Address
	if c.Auth.Issuer == "" {
		c.Auth.Issuer = "http://" + c.Listen.API + devIssuerPath
		c.devIssuer = true
	}
}

// takePorts gives every listener of ours a free port.
func (c *Config) takePorts(ports *local.Ports) error {
	for _, to := range []*string{&c.Listen.API, &c.Listen.Admin, &c.Turn.CDS, &c.Turn.Listen, &c.Turn.Health, &c.Turn.Metrics, &c.Turn.Echo} {
		n, err := ports.Take()
		if err != nil {
			return fmt.Errorf("take a free port: %w", err)
		}
		*to = net.JoinHostPort("127.0.0.1", strconv.Itoa(n))
	}
	return nil
}

// freeAddresses says at once, before parts are started, which address of ours,
// or of the gateway that we configure, is taken or not on this machine alone.
func freeAddresses(ctx context.Context, cfg Config) error {
	type address struct{ network, at, flag string }
	ours := []address{{"tcp", cfg.Listen.API, "--listen.api"}, {"tcp", cfg.Listen.Admin, "--listen.admin"}}
	if cfg.Turn.Gateway != "" {
		ours = append(ours, address{"tcp", cfg.Turn.CDS, "--turn.cds"}, address{"udp", cfg.Turn.Listen, "--turn.listen"},
			address{"tcp", cfg.Turn.Listen, "--turn.listen"}, address{"tcp", cfg.Turn.Health, "--turn.health"},
			address{"tcp", cfg.Turn.Metrics, "--turn.metrics"})
		if cfg.Turn.Echo != "" {
			ours = append(ours, address{"udp", cfg.Turn.Echo, "--turn.echo"})
		}
	}
	for _, a := range ours {
		if err := onLoopback(a.at, a.flag); err != nil {
			return err
		}
		if err := freeAddress(ctx, a.network, a.at, a.flag); err != nil {
			return err
		}
	}
	return nil
}

// onLoopback refuses what others could reach: the development issuer makes
// anybody an administrator who can read a file here.
func onLoopback(address, flag string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%s: %q is not host:port", flag, address)
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("%s: relay up is for this machine alone, and %s is no loopback address; use 127.0.0.1, or relay serve", flag, host)
}

func freeAddress(ctx context.Context, network, address, flag string) error {
	var lis io.Closer
	var err error
	if network == "udp" {
		lis, err = new(net.ListenConfig).ListenPacket(ctx, network, address)
	} else {
		lis, err = new(net.ListenConfig).Listen(ctx, network, address)
	}
	if err != nil {
		return fmt.Errorf("%s is taken (%w); stop what has it, choose another with %s, or use --free-ports (make up ARGS=--free-ports)", address, err, flag)
	}
	return lis.Close()
}

// startGateway starts stunnerd with our config discovery and waits until a
// probe went through it.
func startGateway(ctx context.Context, p *process, stack *local.Stack) error {
	g, err := p.cfg.gateway()
	if err != nil {
		return err
	}
	if _, err := stack.StartStunnerd(ctx, local.StunnerdConfig{Origin: p.turn.Origin(), ID: g.ID(), Health: "http://" + p.cfg.Turn.Health}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, healthyWithin)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		h, _ := p.turn.Health(g.Name)
		if h.State == turn.Healthy {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the TURN gateway is not healthy after %s: %s", healthyWithin, h.Problem)
		case <-tick.C:
		}
	}
}

// describe says where all of it runs.
func (c Config) describe(stack *local.Stack) Running {
	run := Running{
		API: c.Listen.API, Admin: c.Listen.Admin, Data: c.Data, Issuer: c.Auth.Issuer, PID: os.Getpid(),
		Audience: c.Auth.Audience, LiveKit: c.livekitPublic(), Processes: map[string]int{runfile.Relay: os.Getpid()},
	}
	parts := map[string]local.Name{runfile.SFU: local.PartLiveKit, runfile.SeaweedFS: local.PartSeaweedFS, runfile.Guacd: local.PartGuacd}
	if c.Turn.Gateway != "" {
		run.TURNMetrics = "http://" + c.Turn.Metrics + "/metrics"
		parts[runfile.TURN] = "stunnerd-relay-" + local.Name(c.Turn.Gateway)
	}
	for name, part := range parts {
		if p := stack.Process(part); p != nil {
			run.Processes[name] = p.Pid()
		}
	}
	return run
}

// relayCommand is how this program is called from the folder it was started
// in, for text that is to be copied.
func relayCommand() string {
	if self := os.Args[0]; strings.Contains(self, "relay") {
		return self
	}
	return "relay"
}

// shown makes an address fit for a URL in printed text.
func shown(address string) string { return (&url.URL{Scheme: "http", Host: address}).String() }
