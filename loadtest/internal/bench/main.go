package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"

	"github.com/openova-io/bp-relay/services/format/printable"
)

// Main runs the command line, or a child's role, and returns the exit code: 0
// if everything was measured, 1 if something could not be, 2 for wrong usage.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if code, handled := Roles().Run(ctx, args, stdin, stdout, stderr); handled {
		return code
	}
	cfg := Config{Out: stdout}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	only := f.String("only", "", "comma-separated names of the cases to measure (see -list)")
	list := f.Bool("list", false, "list the cases")
	f.IntVar(&cfg.Rounds, "rounds", 0, "turns of each subject; 0: each case's default")
	f.BoolVar(&cfg.Quick, "quick", false, "fewer and shorter rounds, for a rough look only")
	f.StringVar(&cfg.Results, "results", "bench/results.json", "file to write the results to")
	f.StringVar(&cfg.Relay, "relay", "bin/relay", "the relay to measure")
	f.StringVar(&cfg.RelayDev, "relay-dev", "bin/relay-dev", "the relay-dev that runs relay's services")
	f.Usage = func() {
		fmt.Fprintln(stderr, "bench measures relay and its baselines in turns, prints a table and writes the results.")
		f.PrintDefaults()
	}
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	}
	if *list {
		for _, c := range Cases() {
			fmt.Fprintf(stdout, "%-10s %s\n", c.Name, c.What)
		}
		return 0
	}
	if *only != "" {
		cfg.Only = strings.Split(*only, ",")
	}
	if err := Run(ctx, cfg); err != nil {
		fmt.Fprintln(stderr, "bench:", printable.Block(err.Error()))
		return 1
	}
	return 0
}
