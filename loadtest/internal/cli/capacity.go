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

	"github.com/openova-io/bp-relay/loadtest/internal/capacity"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/run"
	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
)

func bytesReader(p []byte) io.Reader { return bytes.NewReader(p) }

func capacityCommand() *cobra.Command {
	c := chosen{constant: true}
	var cfg capacity.Config
	var jsonFile, dir string
	cmd := &cobra.Command{
		Use:   "find-capacity SCENARIO",
		Short: "Search the largest population that keeps the thresholds",
		Long: `find-capacity runs a scenario repeatedly with more and with fewer
subscribers per room, and reports the largest number that keeps its thresholds,
with an interval: repeated runs of one number do not always agree. A run in
which the generator itself was the bottleneck never counts against the system
under test; the answer is then "at least N".

In each run the population is constant: a scenario's stages are ignored, and
--hold sets how long a run is measured.

The scenario's thresholds decide; the default is 'loss < 0.1%' and
'latency_p99 < 150ms'.`,
		Example: `  relay-loadtest find-capacity livestream --min 10 --max 400 --hold 10s
  relay-loadtest find-capacity my.yaml --trials 5 --confidence 0.95 --json capacity.json`,
		Args: args(1, 1, "want one scenario: a file, or a name from relay-loadtest scenarios"),
		RunE: func(cmd *cobra.Command, a []string) error {
			s, err := c.read(a[0], cmd.Flags())
			if err != nil {
				return err
			}
			if err := writable("--json", jsonFile); err != nil {
				return err
			}
			if slices.Contains(c.changed, "rooms.subscribers") {
				return usage{errors.New("find-capacity itself sets the subscribers per room: give --min and --max")}
			}
			if least := len(s.Paths); cfg.Min < least && !cmd.Flags().Changed("min") {
				cfg.Min = least // a path without participants measures nothing
			} else if cfg.Min < least {
				return usage{fmt.Errorf("--min %d: %s has %d paths (--path), each of which needs a subscriber in each room", cfg.Min, s.Name, least)}
			}
			for _, n := range []string{"resolution", "trials", "max-runs", "confidence"} {
				if f := cmd.Flags().Lookup(n); f.Changed && (f.Value.String() == "0" || strings.HasPrefix(f.Value.String(), "-")) {
					return usage{fmt.Errorf("--%s %s: want more than 0", n, f.Value)}
				}
			}
			if most := scenario.MostSubscribers; cfg.Max > most {
				return usage{fmt.Errorf("--max %d: a room has at most %d subscribers", cfg.Max, most)}
			}
			if cfg.Min < 1 || cfg.Min > cfg.Max {
				return usage{fmt.Errorf("populations from --min %d to --max %d: want 1 or greater, ascending", cfg.Min, cfg.Max)}
			}
			if len(s.Thresholds) == 0 {
				s.Thresholds = scenario.Thresholds{"loss < 0.1%", "latency_p99 < 150ms"}
			}
			if s.Kind != result.KindMedia {
				return usage{fmt.Errorf("find-capacity searches media scenarios; %s is of kind %s", s.Name, s.Kind)}
			}
			if s.Load.Mode == scenario.Open {
				return usage{fmt.Errorf("find-capacity searches a population; %s is an open load: arrivals at a rate", s.Name)}
			}
			return search(cmd, s, cfg, dir, jsonFile)
		},
	}
	c.flags(cmd.Flags())
	f := cmd.Flags()
	f.IntVar(&cfg.Min, "min", 1, "smallest number of subscribers per room to try")
	f.IntVar(&cfg.Max, "max", 1000, "largest number to try")
	f.Float64Var(&cfg.Resolution, "resolution", .05, "precision of the capacity, as a share")
	f.IntVar(&cfg.Trials, "trials", 3, "conclusive runs that decide about a number")
	f.IntVar(&cfg.MaxRuns, "max-runs", 60, "most runs")
	f.Float64Var(&cfg.Confidence, "confidence", .9, "confidence of the interval")
	f.StringVar(&jsonFile, "json", "", "write all trials as JSON")
	f.StringVar(&dir, "dir", ".local", "folder of make up; its stack is the target if it is running")
	return cmd
}

func search(cmd *cobra.Command, s *scenario.Scenario, cfg capacity.Config, dir, jsonFile string) (err error) {
	out := cmd.ErrOrStderr()
	system, err := run.Find(cmd.Context(), run.FindFor(s, dir, os.Getenv, out))
	if err != nil {
		return err
	}
	defer func() {
		if cerr := system.Close(); err == nil {
			err = cerr
		}
	}()
	fmt.Fprintf(out, "against %s\n", system.About())
	cfg.Seed, cfg.Unit = s.Seed, "subscribers per room"
	cfg.Run = func(ctx context.Context, n int) (*result.Report, error) {
		return run.Do(ctx, run.DoConfig{Scenario: populated(s, n), Dir: dir, Getenv: os.Getenv, Out: io.Discard, SUT: system})
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

// populated returns a scenario with n subscribers in each room and a warm-up in
// which all of them join. A join through TURN takes LiveKit two seconds.
func populated(s *scenario.Scenario, n int) *scenario.Scenario {
	one := *s
	one.Rooms.Subscribers = n
	joins := time.Duration(float64(n*one.Rooms.Count) / one.Load.JoinRate * float64(time.Second))
	one.Load.Warmup = max(one.Load.Warmup, joins+3*time.Second)
	return &one
}
