// Package app puts one relay process together: configuration, the graph of
// modules as data, the command line, start and stop. It is the only importer
// of all services.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
)

// ErrExit carries an exit code that is not 1; what there was to say is said.
type ErrExit int

// Error is empty words: the command has printed its findings itself.
func (e ErrExit) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// Main runs the command line and returns the exit code.
func Main(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal asks for an orderly stop, the second one ends us at once.
	context.AfterFunc(ctx, stop)
	root := Command(stdout, stderr)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var code ErrExit
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	}
	fmt.Fprintln(stderr, "relay:", err)
	return 1
}

// Command is the command line.
func Command(stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "relay",
		Short: "Control plane for calls (LiveKit), privileged sessions (guacd) and their evidence",
		Long: `relay is a control plane: application backends ask it for rooms, join tokens and
TURN servers, people open shells in a browser through it, and every call and
session that must be is recorded so that anyone can verify it offline.

On one machine, "relay up" starts everything it needs and itself. In production,
"relay serve" runs all services or some of them.`,
		Example: `  relay up                                  # the whole stack on loopback
  relay token --role relay-admin            # a development token
  relay serve --config relay.yaml --services room,turn
  relay verify evidence.tar --key log.vkey  # offline`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version(),
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.AddCommand(upCommand(), serveCommand(), tokenCommand(), verifyCommand(), exportCommand(), obtainCommand(), demoCommand())
	return root
}

func serveCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run all services, or some of them, against existing servers",
		Long: `serve runs the services named by --services in this process. LiveKit, the object
store and guacd are existing ones, given by address. Records are in SQLite and
live state is in memory unless store.postgres and bus.redis are set.

Every key can stand in the YAML file, in a RELAY_* variable, or in a flag; the
later wins.`,
		Example: `  relay serve --config relay.yaml
  relay serve --services room,turn --peers.turn ""
  RELAY_LIVEKIT_SECRET=file:/run/secrets/livekit relay serve --config relay.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := Load(Default(), orEnv(path, "RELAY_CONFIG"), cmd.Flags())
			if err != nil {
				return err
			}
			return Serve(cmd.Context(), cfg)
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "YAML file (env RELAY_CONFIG)")
	AddFlags(cmd.Flags(), Default())
	return cmd
}

// Serve runs a process until ctx ends.
func Serve(ctx context.Context, cfg Config) error {
	if err := cfg.Check(); err != nil {
		return fmt.Errorf("configuration:\n%w", err)
	}
	p, err := newServing(ctx, cfg)
	if err != nil {
		return err
	}
	p.log.InfoContext(ctx, "relay runs", "api", cfg.Listen.API, "admin", cfg.Listen.Admin, "services", cfg.Services)
	return p.run(ctx)
}

// gcPercent lets the heap, which is small here, grow to four times what lives
// before it is collected: a tenth of the CPU of a busy process otherwise.
const gcPercent = 300

// newServing makes a process with all that its configuration wants, ready to
// run.
func newServing(ctx context.Context, cfg Config) (*process, error) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	p := newProcess(cfg)
	adm, err := newAdmin(ctx, p)
	if err != nil {
		return nil, err
	}
	p.closers = append(p.closers, ignoreClosed(adm.lis.Close))
	wanted := []string{"server"}
	for _, s := range serviceNames() {
		if cfg.runs(s) {
			wanted = append(wanted, s)
		}
	}
	if err := p.build(ctx, graph(), wanted...); err != nil {
		return nil, err
	}
	p.server.origins = cfg.Tunnel.Origins
	p.tasks = append(p.tasks, task{"admin", adm.run}, task{"what is away", p.sayWhatIsAway})
	return p, nil
}

func orEnv(value, name string) string {
	if value == "" {
		return os.Getenv(name)
	}
	return value
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return info.Main.Version
}
