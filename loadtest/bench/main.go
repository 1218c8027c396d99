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
)

// Main runs the command line, or a child's role, and returns the exit code: 0
// when everything was measured, 1 when something could not be, 2 for wrong
// usage.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if code, handled := Roles().Run(ctx, args, stdin, stdout, stderr); handled {
		return code
	}
	cfg := Config{Out: stdout}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	only := f.String("only", "", "comma-separated names of what to measure (see -list)")
	list := f.Bool("list", false, "list what can be measured")
	f.IntVar(&cfg.Rounds, "rounds", 0, "turns of each subject; 0: each measurement's own number")
	f.BoolVar(&cfg.Quick, "quick", false, "a look in under two minutes: fewer and shorter rounds")
	f.StringVar(&cfg.Results, "results", "bench/results.json", "file for the results")
	f.StringVar(&cfg.Relay, "relay", "bin/relay", "the relay to measure")
	f.Usage = func() {
		fmt.Fprintln(stderr, "bench measures ours and what it is compared to in turns, prints a table and writes the results.")
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
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	return 0
}
