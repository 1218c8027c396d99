package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/openova-io/bp-relay/loadtest/scenario"
)

// The exit codes besides those of verdicts (report.Verdict.ExitCode).
const (
	exitError       = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// exit ends the program with a code that needs no further word.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// usage is an error of the command line itself.
type usage struct{ error }

// Unwrap gives what was wrong.
func (u usage) Unwrap() error { return u.error }

// Main runs the command line and returns the exit code.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	root := command()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var code exit
	var wrong usage
	var invalid *scenario.InvalidError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "relay-loadtest: interrupted")
		return exitInterrupted
	case errors.As(err, &wrong), errors.As(err, &invalid):
		fmt.Fprintln(stderr, "relay-loadtest:", err)
		return exitUsage
	}
	fmt.Fprintln(stderr, "relay-loadtest:", err)
	return exitError
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:   "relay-loadtest",
		Short: "Measure what LiveKit, STUNner and relay carry",
		Long: `relay-loadtest sends real media through a real LiveKit, directly and through
TURN, counts every packet from the publisher's socket to the subscriber's, and
says where each one that is missing was lost. It judges by thresholds, and says
"inconclusive" rather than blame the installation for its own shortness of breath.

Without a target it takes the stack that "make up" runs in this folder, or starts
a LiveKit and a STUNner of its own on loopback.`,
		Example: `  relay-loadtest run smoke                       # a first look, half a minute
  relay-loadtest run turn-tax --html tax.html    # what each TURN path costs, as a page
  relay-loadtest run my.yaml --set rooms.subscribers=200 --threshold 'latency_p99 < 150ms'
  relay-loadtest find-capacity livestream --max 400
  relay-loadtest plan big.yaml --cost cost.json  # workers for 10,000 participants
  relay-loadtest scenarios                       # what is there to begin with`,
		SilenceUsage: true, SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage{err} })
	root.AddCommand(runCommand(), capacityCommand(), planCommand(), reportCommand(), scenariosCommand(), schemaCommand())
	return root
}

// args is a cobra rule whose errors are of usage.
func args(rule cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, a []string) error {
		if err := rule(cmd, a); err != nil {
			return usage{fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())}
		}
		return nil
	}
}
