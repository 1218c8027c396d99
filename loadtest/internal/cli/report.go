package cli

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/openova-io/bp-relay/loadtest/internal/judge"
	"github.com/openova-io/bp-relay/loadtest/internal/report"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
	"github.com/openova-io/bp-relay/loadtest/internal/work"
)

func reportCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "report", Short: "Show, compare and merge reports"}
	cmd.AddCommand(showCommand(), htmlCommand(), compareCommand(), mergeCommand())
	group(cmd)
	return cmd
}

func showCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show A.json", Short: "Print a report's summary", Args: args(1, 1, "want one report"),
		RunE: func(cmd *cobra.Command, a []string) error {
			r, err := readReport(a[0])
			if err != nil {
				return err
			}
			report.Summary(cmd.OutOrStdout(), r)
			return nil
		},
	}
}

func htmlCommand() *cobra.Command {
	return &cobra.Command{
		Use: "html A.json A.html", Short: "Write a report as an HTML page", Args: args(2, 2, "want a report and the name of the page"),
		RunE: func(_ *cobra.Command, a []string) error {
			if err := apart(a[1], a[0]); err != nil {
				return err
			}
			r, err := readReport(a[0])
			if err != nil {
				return err
			}
			return write(a[1], func(w io.Writer) error { return report.HTML(w, r) })
		},
	}
}

func compareCommand() *cobra.Command {
	var html string
	cmd := &cobra.Command{
		Use: "compare A.json B.json", Short: "Show what differs between two runs, and whether it is significant",
		Args: args(2, 2, "want two reports"),
		RunE: func(cmd *cobra.Command, a []string) error {
			if err := errors.Join(apart(html, a...), writable("--html", html)); err != nil {
				return err
			}
			x, err := readReport(a[0])
			if err != nil {
				return err
			}
			y, err := readReport(a[1])
			if err != nil {
				return err
			}
			if html != "" {
				if err := write(html, func(w io.Writer) error { return report.CompareHTML(w, x, y) }); err != nil {
					return err
				}
			}
			return report.Compare(cmd.OutOrStdout(), x, y)
		},
	}
	cmd.Flags().StringVar(&html, "html", "", "also write it as an HTML page")
	return cmd
}

func mergeCommand() *cobra.Command {
	var o output
	var w workerFlags
	cmd := &cobra.Command{
		Use:   "merge [PART.json ...]",
		Short: "Merge the parts of several workers exactly, and judge the result",
		Long: `merge adds the parts that the workers of a run wrote, from files or,
with --run, from the workers' store. The parts have complete histograms, so
percentiles of the result are exact. It fails if a part is missing.`,
		Example: `  relay-loadtest report merge part-0.json part-1.json --html all.html
  relay-loadtest report merge --run nightly-7 --store s3://loadtests --json all.json`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, a []string) error {
			if err := errors.Join(o.check(), apart(o.json, a...), apart(o.html, a...)); err != nil {
				return err
			}
			parts, err := w.parts(cmd, a)
			if err != nil {
				return err
			}
			rep, err := result.Merge(parts)
			if err != nil {
				return err
			}
			s, err := scenario.Parse("the parts' scenario", bytesReader(rep.Scenario))
			if err != nil {
				return err
			}
			judge.Judge(rep, s.Thresholds)
			if err := o.write(cmd.OutOrStdout(), rep); err != nil {
				return err
			}
			if code := rep.Verdict.ExitCode(); code != 0 {
				return exit(code)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.json, "json", "", "write the merged report as JSON")
	f.StringVar(&o.html, "html", "", "write it as an HTML page")
	f.StringVar(&w.id, "run", "", "take the parts of this run from the store")
	f.StringVar(&w.store, "store", "", "the workers' store (env "+work.EnvStore+")")
	w.worker = -1
	return cmd
}

// parts reads the parts from files, or those of a run from the store.
func (w *workerFlags) parts(cmd *cobra.Command, files []string) (parts []*result.Report, err error) {
	if w.id == "" {
		if len(files) == 0 {
			return nil, usage{errors.New("name the parts' files, or the run with --run")}
		}
		for _, f := range files {
			r, err := readReport(f)
			if err != nil {
				return nil, err
			}
			parts = append(parts, r)
		}
		return parts, nil
	}
	if len(files) > 0 {
		return nil, usage{errors.New("--run and files exclude each other")}
	}
	store, err := work.Open(cmd.Context(), work.FromEnv(w.getenv))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	fmt.Fprintln(cmd.ErrOrStderr(), "reading the parts of", w.id)
	return store.Parts(cmd.Context(), w.id)
}
