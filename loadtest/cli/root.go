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

	"github.com/openova-io/bp-relay/loadtest/capacity"
	"github.com/openova-io/bp-relay/loadtest/plan"
	"github.com/openova-io/bp-relay/loadtest/run"
	"github.com/openova-io/bp-relay/loadtest/scenario"
	"github.com/openova-io/bp-relay/loadtest/tunnelload"
	"github.com/openova-io/bp-relay/loadtest/work"
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
	ends := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup
		ends = append(ends, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	defer stop()
	// The first Ctrl-C ends the run in order, a second one the program at once.
	told := make(chan struct{})
	untell := context.AfterFunc(ctx, func() {
		defer close(told)
		stop()
		fmt.Fprintln(stderr, "\nrelay-loadtest: stopping; once more ends it at once")
	})
	// Whoever reads our output may stop to, as head does: that must not end a run
	// of hours before its files are written.
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
		lost := err == nil || errors.Is(err, werr) // and nothing else was wrong
		switch {
		case !errors.Is(werr, syscall.EPIPE): // which is that nobody wanted it
			fmt.Fprintln(stderr, "relay-loadtest: the standard output could not be written:", werr)
			if lost {
				err = exit(exitError)
			}
		case lost:
			err = nil
		}
	}
	if !untell() {
		<-told // what comes last is said last
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
	fmt.Fprintln(stderr, "relay-loadtest:", err)
	if mistaken(err) {
		return exitUsage
	}
	return exitError
}

// mistaken says whether an error is the caller's: it comes before anything is
// tried, and again however often it is.
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
		SilenceUsage: true, SilenceErrors: true, SuggestionsMinimumDistance: 2,
	}
	group(root)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage{err} })
	root.AddCommand(runCommand(), capacityCommand(), planCommand(), reportCommand(), scenariosCommand(), schemaCommand(), sizingCommand())
	return root
}

// group makes a command that only has others under it: alone it is help.
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
		return usage{fmt.Errorf("there is no command %q; %s", a[0], hint)}
	}
}

// args is a rule about the number of arguments that says what they are.
func args(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, a []string) error {
		if len(a) < least || (most >= 0 && len(a) > most) {
			return usage{fmt.Errorf("%d arguments were given, %s; see %s --help", len(a), what, cmd.CommandPath())}
		}
		return nil
	}
}
