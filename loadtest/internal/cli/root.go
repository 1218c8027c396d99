package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/openova-io/bp-relay/loadtest/internal/capacity"
	"github.com/openova-io/bp-relay/loadtest/internal/plan"
	"github.com/openova-io/bp-relay/loadtest/internal/run"
	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
	"github.com/openova-io/bp-relay/loadtest/internal/tunnelload"
	"github.com/openova-io/bp-relay/loadtest/internal/work"
	"github.com/openova-io/bp-relay/services/format/printable"
)

// The exit codes besides those of verdicts (result.Verdict.ExitCode).
const (
	exitError       = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// exit ends the program with a code and without a message.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// usage is an error of the command line itself.
type usage struct{ error }

// Unwrap returns the error.
func (u usage) Unwrap() error { return u.error }

// Main runs the command line and returns the exit code.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ends := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as nohup sets it
		ends = append(ends, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	defer stop()
	// The first Ctrl-C stops the run in order, a second one ends the program at
	// once.
	told := make(chan struct{})
	untell := context.AfterFunc(ctx, func() {
		defer close(told)
		stop()
		fmt.Fprintln(stderr, "\nrelay-loadtest: stopping; press Ctrl-C again to end at once")
	})
	// The reader of the output may stop reading, as head does: this must not end
	// a run of hours before its files are written.
	unread := make(chan os.Signal, 1)
	signal.Notify(unread, syscall.SIGPIPE)
	defer signal.Stop(unread)
	out := &watched{Writer: stdout}
	root := command()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(out)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if werr := out.failed(); werr != nil {
		lost := err == nil || errors.Is(err, werr) // there is no other error
		switch {
		case !errors.Is(werr, syscall.EPIPE): // EPIPE: the reader stopped reading
			fmt.Fprintln(stderr, "relay-loadtest: cannot write the standard output:", werr)
			if lost {
				err = exit(exitError)
			}
		case lost:
			err = nil
		}
	}
	if !untell() {
		<-told // print the final message last
	}
	var code exit
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "relay-loadtest: interrupted")
		return exitInterrupted
	}
	fmt.Fprintln(stderr, "relay-loadtest:", printable.Block(err.Error()))
	if mistaken(err) {
		return exitUsage
	}
	return exitError
}

// mistaken reports whether an error is the caller's: it occurs before anything is
// tried, and every time.
func mistaken(err error) bool {
	var wrong usage
	var invalid *scenario.InvalidError
	if errors.As(err, &wrong) || errors.As(err, &invalid) {
		return true
	}
	for _, known := range []error{run.ErrTarget, run.ErrNoPath, capacity.ErrConfig, work.ErrConfig, plan.ErrJob, tunnelload.ErrConfig} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:   "relay-loadtest",
		Short: "Measure what LiveKit, STUNner and relay carry",
		Long: `relay-loadtest sends real media through a real LiveKit, directly and through
TURN, counts every packet from the publisher's socket to the subscriber's, and
attributes each missing one to a hop. It judges by thresholds, and reports
"inconclusive" if the generator itself was the bottleneck.

Without a target it uses the stack that "make up" runs in this folder, or starts
a LiveKit and a STUNner of its own on loopback.`,
		Example: `  relay-loadtest run smoke                       # a first look, half a minute
  relay-loadtest run turn-tax --html tax.html    # what each TURN path costs, as a page
  relay-loadtest run my.yaml --set rooms.subscribers=200 --threshold 'latency_p99 < 150ms'
  relay-loadtest find-capacity livestream --max 400
  relay-loadtest plan big.yaml --cost cost.json  # workers for 10,000 participants
  relay-loadtest scenarios                       # list the ready-made scenarios`,
		SilenceUsage: true, SilenceErrors: true, SuggestionsMinimumDistance: 2,
	}
	group(root)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage{err} })
	root.AddCommand(runCommand(), capacityCommand(), planCommand(), reportCommand(), scenariosCommand(), schemaCommand(), sizingCommand())
	return root
}

// group makes a command that only has subcommands: alone, it prints its help.
func group(cmd *cobra.Command) {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, a []string) error {
		if len(a) == 0 {
			return cmd.Help()
		}
		hint := "see " + cmd.CommandPath() + " --help"
		if like := cmd.SuggestionsFor(a[0]); len(like) > 0 {
			hint = "did you mean " + strings.Join(like, " or ") + "?"
		}
		return usage{fmt.Errorf("unknown command %q; %s", a[0], hint)}
	}
}

// args limits the number of arguments; what describes the wanted ones.
func args(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, a []string) error {
		if len(a) < least || (most >= 0 && len(a) > most) {
			return usage{fmt.Errorf("got %d arguments, %s; see %s --help", len(a), what, cmd.CommandPath())}
		}
		return nil
	}
}
