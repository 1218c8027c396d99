// Package cli is the command line of relay-dev, which runs the whole stack on a
// developer's machine: the third-party parts (package stack), relay's services
// (package app) with a development issuer (package issuer), and the demo.
package cli

import (
	"io"

	"github.com/spf13/cobra"

	"github.com/openova-io/bp-relay/services/app"
)

// Main runs the command line and returns the exit code.
func Main(args []string, stdout, stderr io.Writer) int {
	return app.Execute(Command(stdout, stderr), args, stderr)
}

// Command returns the command line.
func Command(stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "relay-dev",
		Short: "Run bp-relay and everything that it needs on this machine",
		Long: `relay-dev is for development: it obtains and starts LiveKit, SeaweedFS, guacd and
STUNner on loopback, runs all services of relay beside them, and issues tokens.
Production runs "relay serve", which contains none of this.`,
		Example: `  relay-dev up                          # the whole stack on loopback
  relay-dev token --role relay-admin    # a development token
  relay-dev demo                        # the main job end to end`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       app.Version(),
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.AddCommand(upCommand(), demoCommand(), tokenCommand(), obtainCommand())
	return root
}
