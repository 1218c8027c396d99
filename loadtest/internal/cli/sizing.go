package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/run"
	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
	"github.com/openova-io/bp-relay/loadtest/internal/sizing"
)

// sizingFlags configure a sweep and its outputs.
type sizingFlags struct {
	hold            time.Duration
	quick, recorder bool
	from            string
	json, doc       string
	pictures        string
}

func sizingCommand() *cobra.Command {
	var f sizingFlags
	cmd := &cobra.Command{
		Use:   "sizing",
		Short: "Measure what a core of this machine carries, and write docs/sizing.md",
		Long: `sizing does real runs of growing size against a LiveKit and a STUNner of its own:
subscribers directly and through TURN, publishers, audio only, joins and, with
--recorder, recordings by a relay of its own (bin/relay-dev). A series ends at the
first run that does not pass. It writes all figures as JSON, pictures, and the
tables between the markers of a document. Nothing else should run on the machine.`,
		Example: `  relay-loadtest sizing --recorder               # about five minutes, in the clone
  relay-loadtest sizing --quick --json /tmp/sizing.json --doc '' --pictures ''
  relay-loadtest sizing --from docs/sizing.json  # tables and pictures of an earlier sweep again`,
		Args: args(0, 0, "want none"),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.do(cmd) },
	}
	fs := cmd.Flags()
	fs.DurationVar(&f.hold, "hold", 8*time.Second, "measured part of each run; 4s with --quick")
	fs.BoolVar(&f.quick, "quick", false, "only a third of the points")
	fs.BoolVar(&f.recorder, "recorder", false, "also measure recordings; needs bin/relay-dev (make build)")
	fs.StringVar(&f.from, "from", "", "measure nothing and use the figures of this JSON file")
	fs.StringVar(&f.json, "json", filepath.Join("docs", "sizing.json"), "file to write the figures to; '' for none")
	fs.StringVar(&f.doc, "doc", filepath.Join("docs", "sizing.md"), "document with the markers to write to; '' for none")
	fs.StringVar(&f.pictures, "pictures", filepath.Join("docs", "pictures"), "folder to write the pictures to; '' for none")
	return cmd
}

func (f *sizingFlags) do(cmd *cobra.Command) error {
	if f.quick && !cmd.Flags().Changed("hold") {
		f.hold = 4 * time.Second
	}
	if err := f.check(); err != nil {
		return err
	}
	var d *sizing.Data
	var err error
	if f.from != "" {
		d, err = readSizing(f.from)
	} else {
		d, err = f.sweep(cmd.Context(), cmd.ErrOrStderr())
	}
	if err != nil {
		return err
	}
	return f.write(cmd.OutOrStdout(), d)
}

// check finds errors that would otherwise appear only after minutes.
func (f *sizingFlags) check() error {
	if f.doc != "" {
		doc, err := os.ReadFile(f.doc)
		if err != nil {
			return usage{fmt.Errorf("--doc: %w: name a document with the markers, or ''", err)}
		}
		if _, err := sizing.Insert(string(doc), new(sizing.Data).Fragments()); err != nil {
			return usage{fmt.Errorf("--doc %s: %w", f.doc, err)}
		}
	}
	picture := ""
	if f.pictures != "" {
		picture = filepath.Join(f.pictures, "sizing.svg")
	}
	return errors.Join(writable("--json", f.json), writable("--doc", f.doc), writable("--pictures", picture))
}

func readSizing(name string) (_ *sizing.Data, err error) {
	in, err := open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	return sizing.Read(in)
}

// sweep does the sweep.
func (f *sizingFlags) sweep(ctx context.Context, out io.Writer) (_ *sizing.Data, err error) {
	series := sizing.Full()
	if f.quick {
		series = sizing.Quick()
	}
	system, err := run.Find(ctx, run.FindConfig{
		Target: scenario.Target{Local: true}, Paths: []string{scenario.Direct, scenario.TURNUDP}, Getenv: os.Getenv, Out: out,
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, system.Close()) }()
	do := func(system run.SUT) func(context.Context, *scenario.Scenario) (*result.Report, error) {
		return func(ctx context.Context, s *scenario.Scenario) (*result.Report, error) {
			return run.Do(ctx, run.DoConfig{Scenario: s, Getenv: os.Getenv, Out: io.Discard, SUT: system})
		}
	}
	c := sizing.Config{
		Series: series, Hold: f.hold, Quick: f.quick, Tool: run.Tool(), Run: do(system),
		Progress: func(line string) { fmt.Fprintln(out, line) },
	}
	if f.recorder {
		c.Series, c.Record = append(c.Series, sizing.Recordings(f.quick)), do(nil)
	}
	fmt.Fprintf(out, "against %s; about %s\n", system.About(), sizing.Estimate(c.Series, f.hold).Round(10*time.Second))
	return sizing.Sweep(ctx, c)
}

// write writes the files and prints where they are.
func (f *sizingFlags) write(out io.Writer, d *sizing.Data) error {
	if f.json != "" && f.json != f.from {
		if err := write(f.json, d.Write); err != nil {
			return err
		}
		fmt.Fprintln(out, "figures: ", f.json)
	}
	if f.pictures != "" {
		all, err := d.Pictures()
		if err != nil {
			return err
		}
		for name, svg := range all {
			if err := os.WriteFile(filepath.Join(f.pictures, name), svg, 0o644); err != nil {
				return fmt.Errorf("sizing: write picture: %w", err)
			}
		}
		fmt.Fprintf(out, "pictures: %d in %s\n", len(all), f.pictures)
	}
	if f.doc == "" {
		return nil
	}
	doc, err := os.ReadFile(f.doc)
	if err != nil {
		return fmt.Errorf("sizing: %w", err)
	}
	text, err := sizing.Insert(string(doc), d.Fragments())
	if err != nil {
		return err
	}
	if err := write(f.doc, func(w io.Writer) error { _, err := io.WriteString(w, text); return err }); err != nil {
		return err
	}
	fmt.Fprintln(out, "document:", f.doc)
	return nil
}
