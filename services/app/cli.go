// Package app assembles one relay process from its configuration: the graph of
// modules as data, the command line, run and shutdown. It is the only importer
// of all services. Package dev/cli builds on it; it imports nothing of dev.
package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/openova-io/bp-relay/services/format/printable"
)

// ErrExit carries an exit code other than 1. The command has already printed
// its findings.
type ErrExit int

// Error satisfies error; nothing prints it.
func (e ErrExit) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// Main runs relay's command line and returns the exit code.
func Main(args []string, stdout, stderr io.Writer) int {
	return Execute(Command(stdout, stderr), args, stderr)
}

// Execute runs a command line and returns its exit code: 0, the code of an
// [ErrExit], or 1 for any other error, which it prints to stderr. The first
// SIGINT or SIGTERM ends the command's context; the second one ends the process.
// What the command makes is closed to the group and to others (umask 077).
func Execute(root *cobra.Command, args []string, stderr io.Writer) int {
	syscall.Umask(0o077)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var code ErrExit
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	}
	fmt.Fprintf(stderr, "%s: %s\n", root.Name(), printable.Block(err.Error()))
	return 1
}

// Command returns relay's command line.
func Command(stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "relay",
		Short: "Control plane for calls (LiveKit), privileged sessions (guacd) and their evidence",
		Long: `relay is a control plane. Application backends get rooms, join tokens and TURN
servers from it, people open shells in a browser through it, and it
records calls and sessions so that anyone can verify the recordings offline.

"relay serve" runs all services or some of them in front of existing servers. To
start everything on one machine, use "relay-dev up".`,
		Example: `  relay serve --config relay.yaml --services room,turn
  relay export orgs/acme/captures/01a2027f-99d0-78ea-908d-d0ddd11a9f6b
  relay verify evidence.tar --key log.vkey  # offline`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       Version(),
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.AddCommand(serveCommand(), verifyCommand(), exportCommand(), alarmsCommand())
	return root
}

func serveCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run all services, or some of them, in front of existing servers",
		Long: `serve runs the services that --services names in this process. It starts no other
server: LiveKit, the object store and guacd are existing ones, given by address.
Records are in SQLite and live state is in memory unless records.postgres and
bus.redis are set.

Each key can be set in the YAML file, in a RELAY_* variable, or in a flag. The
flag overrides the variable, and the variable overrides the file.`,
		Example: `  relay serve --config relay.yaml
  relay serve --services room,turn --remote.turn ""
  RELAY_LIVEKIT_SECRET=file:/run/secrets/livekit relay serve --config relay.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := Load(Default(), cmp.Or(path, os.Getenv("RELAY_CONFIG")), cmd.Flags())
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
	p, err := New(ctx, cfg, Options{})
	if err != nil {
		return err
	}
	return p.Run(ctx)
}

// Version returns the commit that this program was built from, or "unknown".
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return cmp.Or(info.Main.Version, "unknown")
}
