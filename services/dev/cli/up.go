package cli

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/openova-io/bp-relay/services/app"
	"github.com/openova-io/bp-relay/services/dev/issuer"
	"github.com/openova-io/bp-relay/services/dev/part"
	"github.com/openova-io/bp-relay/services/dev/runfile"
	"github.com/openova-io/bp-relay/services/dev/stack"
)

// upOptions are the flags of `relay-dev up` beside the configuration's.
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
		Long: `up obtains what is missing (the first time takes minutes: LiveKit, SeaweedFS and
STUNner are built from their Go modules into the user's cache, guacd comes from
Debian's packages), starts each part, waits for its health check, and runs all
services with SQLite and a development issuer. Ctrl-C stops everything.

As root, with CAP_NET_ADMIN and nftables in the kernel, up closes the ports that ask
nobody who he is (metrics and profiles, guacd, STUNner's configuration, health and
metrics) to other users of the machine. Else they stay open, and up says so at the
start: then run it only on a machine without other users.

Each part can be an existing server instead: give its address and keys, and up
only checks that it works.`,
		Example: `  relay-dev up
  relay-dev up --livekit.url http://10.0.0.5:7880 --livekit.key K --livekit.secret file:/run/livekit
  relay-dev up --blob.endpoint http://s3:8333 --blob.access_key A --blob.secret_key file:/run/s3
  relay-dev up --records.postgres postgres://relay@db/relay --bus.redis redis://cache
  relay-dev up --guacd.address guacd:4822 --auth.issuer https://sso.example.org/realms/acme`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := app.Load(upDefault(o.dir), cmp.Or(o.config, os.Getenv("RELAY_CONFIG")), cmd.Flags())
			if err != nil {
				return err
			}
			return up(cmd.Context(), cfg, o, upOutput{out: cmd.OutOrStdout()})
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.dir, "dir", ".local", "folder for data, logs and secrets of this run")
	f.StringVar(&o.config, "config", "", "YAML file (env RELAY_CONFIG)")
	f.BoolVar(&o.freePorts, "free-ports", false, "use free ports instead of the usual ones")
	f.IntVar(&o.ports.livekit, "livekit-port", 7880, "port of LiveKit's API, if up starts LiveKit")
	f.IntVar(&o.ports.livekitUDP, "livekit-udp-port", 7882, "port of LiveKit's media over UDP, if up starts LiveKit")
	f.IntVar(&o.ports.s3, "s3-port", 8333, "port of the S3 API, if up starts SeaweedFS")
	f.IntVar(&o.ports.guacd, "guacd-port", 4822, "port of guacd, if up starts it")
	app.AddFlags(f, upDefault(".local"))
	return cmd
}

// upDefault is the configuration of `relay-dev up` before it is loaded: up
// starts the parts whose addresses are still empty afterwards.
func upDefault(dir string) app.Config {
	c := app.Default()
	c.LiveKit.URL, c.Guacd.Address, c.Turn.Gateway = "", "", "default"
	c.Data, c.Log.Level = filepath.Join(dir, "data"), "warn"
	c.Limits.Subject, c.Limits.Org, c.Turn.Mints = 0, 0, 0 // one developer, whose load tests are one subject
	c.Room.EndAtOnce = 100                                 // LiveKit is restarted with relay, and has lost all rooms
	c.Targets.Allow = []string{"127.0.0.1"}                // the demo's sshd is there
	return c
}

// upOutput is where up reports.
type upOutput struct {
	out   io.Writer
	logs  io.Writer             // relay's log; nil means standard error
	ready func(runfile.Running) // called once everything is healthy, if not nil
}

// up runs the whole stack until ctx ends or a part fails.
func up(ctx context.Context, cfg app.Config, o upOptions, to upOutput) (err error) {
	ports := new(stack.Ports)
	defer ports.Release()
	if o.freePorts {
		if err := takePorts(&cfg, ports); err != nil {
			return err
		}
		o.ports.livekit, o.ports.livekitUDP, o.ports.s3, o.ports.guacd = 0, 0, 0, 0
	}
	if err := freeAddresses(ctx, cfg); err != nil {
		return err
	}
	closeToOthers(cfg, ports.Guard, to.out)
	printer := part.NewPrinter(to.out)
	parts, err := stack.Up(ctx, stackOptions(cfg, o, printer.Report))
	printer.Close()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, parts.Stop()) }()
	use(&cfg, parts)
	if cfg.Turn.CDSToken == "" {
		cfg.Turn.CDSToken = app.Secret(rand.Text())
	}
	opts := app.Options{Logs: to.logs}
	if cfg.Auth.Issuer == "" {
		cfg.Auth.Issuer = "http://" + cfg.Listen.API + issuerPath
		iss, err := issuer.New(cfg.Auth.Issuer, filepath.Join(cfg.Data, issuer.KeyFile))
		if err != nil {
			return err
		}
		opts.Issuer = func(mux *http.ServeMux) { iss.Routes(mux, issuerPath) }
	}
	p, err := app.New(ctx, cfg, opts)
	if err != nil {
		return err
	}
	return runBeside(ctx, p, running{cfg: cfg, dir: o.dir, devIssuer: opts.Issuer != nil, parts: parts}, to)
}

// running is what runs, once everything does.
type running struct {
	cfg       app.Config
	dir       string
	devIssuer bool
	parts     *stack.Stack
	logKey    string
}

// runBeside runs relay beside the parts, and then STUNner's data plane, which
// gets its configuration from relay.
func runBeside(ctx context.Context, p *app.Relay, r running, to upOutput) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	fail := func(err error) error {
		cancel(err)
		return errors.Join(err, <-done)
	}
	if r.cfg.Turn.Gateway != "" {
		if err := startGateway(ctx, &r.cfg, p.Turn(), r.parts); err != nil {
			return fail(err)
		}
	}
	file := r.describe()
	if err := file.Write(r.dir); err != nil {
		return fail(err)
	}
	defer func() { _ = runfile.Remove(r.dir) }()
	r.logKey = p.LogKey()
	if err := os.WriteFile(filepath.Join(r.dir, "log.vkey"), []byte(r.logKey+"\n"), 0o600); err != nil {
		return fail(fmt.Errorf("keep the log's public key: %w", err))
	}
	welcome(to.out, r)
	if to.ready != nil {
		to.ready(file)
	}
	select {
	case x := <-r.parts.Exits():
		return fail(fmt.Errorf("%w; everything was stopped", x))
	case err := <-done:
		return err
	case <-ctx.Done():
		fmt.Fprintln(to.out, "\nstopping")
		return <-done
	}
}

// describe returns what other programs on this machine need to find the stack.
func (r running) describe() runfile.Running {
	c := &r.cfg
	run := runfile.Running{
		API: c.Listen.API, Admin: c.Listen.Admin, Data: c.Data, Issuer: c.Auth.Issuer, PID: os.Getpid(),
		Audience: c.Auth.Audience, LiveKit: c.PublicLiveKit(), Processes: map[string]int{runfile.Relay: os.Getpid()},
	}
	names := map[string]part.Name{runfile.SFU: part.LiveKit, runfile.SeaweedFS: part.SeaweedFS, runfile.Guacd: part.Guacd}
	if c.Turn.Gateway != "" {
		run.TURNMetrics = "http://" + c.Turn.Metrics + "/metrics"
		names[runfile.TURN] = "stunnerd-relay-" + part.Name(c.Turn.Gateway)
	}
	for name, part := range names {
		if p := r.parts.Process(part); p != nil {
			run.Processes[name] = p.Pid()
		}
	}
	return run
}
