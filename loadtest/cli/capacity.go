package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/openova-io/bp-relay/loadtest/capacity"
	"github.com/openova-io/bp-relay/loadtest/report"
	"github.com/openova-io/bp-relay/loadtest/run"
	"github.com/openova-io/bp-relay/loadtest/scenario"
)

func bytesReader(p []byte) io.Reader { return bytes.NewReader(p) }

func capacityCommand() *cobra.Command {
	c := chosen{constant: true}
	var cfg capacity.Config
	var jsonFile, dir string
	cmd := &cobra.Command{
		Use:   "find-capacity SCENARIO",
		Short: "Search the largest population that keeps the thresholds",
		Long: `find-capacity runs a scenario again and again with more and with fewer
subscribers per room, and says which is the largest number that keeps its thresholds,
with an interval: repeated runs at a load do not always agree. A run in which
the generator itself was the bottleneck is never counted against the
installation: then the answer is "at least N".

In each run the population is constant: a scenario's stages are left out, and
--hold says how long a run is measured.

The scenario's thresholds decide; without any, 'loss < 0.1%' and
'latency_p99 < 150ms' do.`,
		Example: `  relay-loadtest find-capacity livestream --min 10 --max 400 --hold 10s
  relay-loadtest find-capacity my.yaml --trials 5 --confidence 0.95 --json capacity.json`,
		Args: args(1, 1, "one scenario is wanted: a file, or a ready one of relay-loadtest scenarios"),
		RunE: func(cmd *cobra.Command, a []string) error {
			s, err := c.read(a[0], cmd.Flags())
			if err != nil {
				return err
			}
			if err := writable("--json", jsonFile); err != nil {
				return err
			}
			if slices.Contains(c.changed, "rooms.subscribers") {
				return usage{errors.New("find-capacity varies the subscribers per room itself: give --min and --max")}
			}
			if least := len(s.Paths); cfg.Min < least && !cmd.Flags().Changed("min") {
				cfg.Min = least // on a path that nobody is on, nothing is measured
			} else if cfg.Min < least {
				return usage{fmt.Errorf("--min %d: %s has %d paths (--path), each of which needs a subscriber in each room", cfg.Min, s.Name, least)}
			}
			for _, n := range []string{"resolution", "trials", "max-runs", "confidence"} {
				if f := cmd.Flags().Lookup(n); f.Changed && (f.Value.String() == "0" || strings.HasPrefix(f.Value.String(), "-")) {
					return usage{fmt.Errorf("--%s %s: must be above 0", n, f.Value)}
				}
			}
			if most := scenario.MostSubscribers; cfg.Max > most {
				return usage{fmt.Errorf("--max %d: a room has %d subscribers at most", cfg.Max, most)}
			}
			if cfg.Min < 1 || cfg.Min > cfg.Max {
				return usage{fmt.Errorf("populations from --min %d to --max %d: must be 1 or more, ascending", cfg.Min, cfg.Max)}
			}
			if len(s.Thresholds) == 0 {
				s.Thresholds = scenario.Thresholds{"loss < 0.1%", "latency_p99 < 150ms"}
			}
			if s.Kind != report.KindMedia {
				return usage{fmt.Errorf("find-capacity searches media scenarios; %s is of kind %s", s.Name, s.Kind)}
			}
			if s.Load.Mode == scenario.Open {
				return usage{fmt.Errorf("find-capacity searches a population; %s is an open load, of arrivals at a rate", s.Name)}
			}
			return search(cmd, s, cfg, dir, jsonFile)
		},
	}
	c.flags(cmd.Flags())
	f := cmd.Flags()
	f.IntVar(&cfg.Min, "min", 1, "smallest number of subscribers per room to try")
	f.IntVar(&cfg.Max, "max", 1000, "largest")
	f.Float64Var(&cfg.Resolution, "resolution", .05, "how close to come, as a share")
	f.IntVar(&cfg.Trials, "trials", 3, "runs that decide about a number")
	f.IntVar(&cfg.MaxRuns, "max-runs", 60, "runs at most")
	f.Float64Var(&cfg.Confidence, "confidence", .9, "of the interval")
	f.StringVar(&jsonFile, "json", "", "write all trials as JSON")
	f.StringVar(&dir, "dir", ".local", "folder of make up, whose stack is taken when it runs")
	return cmd
}

func search(cmd *cobra.Command, s *scenario.Scenario, cfg capacity.Config, dir, jsonFile string) (err error) {
	out := cmd.ErrOrStderr()
	place, err := run.Find(cmd.Context(), run.FindFor(s, dir, os.Getenv, out))
	if err != nil {
		return err
	}
	defer func() {
		if cerr := place.Close(); err == nil {
			err = cerr
		}
	}()
	fmt.Fprintf(out, "against %s\n", place.About())
	cfg.Seed, cfg.Unit = s.Seed, "subscribers per room"
	cfg.Run = func(ctx context.Context, n int) (*report.Report, error) {
		return run.Do(ctx, run.DoConfig{Scenario: populated(s, n), Dir: dir, Getenv: os.Getenv, Out: io.Discard, Place: place})
	}
	cfg.Progress = func(e capacity.Event) {
		if e.Trial.Result != "" {
			fmt.Fprintf(out, "run %d: %d subscribers per room: %s\n", e.Runs, e.Trial.N, e.Trial.Result)
		}
	}
	res, err := capacity.Find(cmd.Context(), cfg)
	if res.Runs > 0 {
		if werr := res.WriteText(cmd.OutOrStdout()); werr != nil {
			return werr
		}
		if jsonFile != "" {
			raw, merr := json.MarshalIndent(res, "", "  ")
			if merr != nil {
				return merr
			}
			if werr := os.WriteFile(jsonFile, append(raw, '\n'), 0o644); werr != nil {
				return werr
			}
		}
	}
	if err != nil {
		return err
	}
	if code := res.ExitCode(); code != 0 {
		return exit(code)
	}
	return nil
}

// populated is a scenario with n subscribers in each room and a warm-up in which
// all of them come in. A join through TURN takes LiveKit two seconds.
func populated(s *scenario.Scenario, n int) *scenario.Scenario {
	one := *s
	one.Rooms.Subscribers = n
	joins := time.Duration(float64(n*one.Rooms.Count) / one.Load.JoinRate * float64(time.Second))
	one.Load.Warmup = max(one.Load.Warmup, joins+3*time.Second)
	return &one
}
