package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/openova-io/bp-relay/loadtest/internal/probe"
	"github.com/openova-io/bp-relay/loadtest/internal/report"
	"github.com/openova-io/bp-relay/loadtest/internal/report/live"
	"github.com/openova-io/bp-relay/loadtest/internal/report/prom"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/run"
	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
	"github.com/openova-io/bp-relay/services/dev/hostcheck"
)

// output sets the outputs of a run.
type output struct {
	json, html, prometheus string
	prometheusHosts        []string
	quiet                  bool
	dir                    string
}

func runCommand() *cobra.Command {
	var c chosen
	var o output
	var w workerFlags
	cmd := &cobra.Command{
		Use:   "run SCENARIO",
		Short: "Run a scenario: a YAML file, or the name of a ready-made one",
		Long: `run runs a scenario and judges the result by its thresholds.

Exit code 0: all thresholds hold. 99: one does not. 3: inconclusive, because the
generator itself was the bottleneck or a threshold's figure was not measured;
the report names the reasons. 1: the run failed (nobody joined, media took the
wrong path, no hop explains a lost packet). 2: a mistake in the scenario or the
flags. 130: interrupted.

A worker of several (--worker, --store) writes its part to the store, and
"relay-loadtest report merge" adds the parts; see docs/workers.md.`,
		Example: `  relay-loadtest run smoke --json out.json --html out.html
  relay-loadtest run meeting --local --path turn-tls --subscribers 50
  relay-loadtest run soak --prometheus 127.0.0.1:9095
  LIVEKIT_API_KEY=... LIVEKIT_API_SECRET=... relay-loadtest run livestream --livekit wss://sfu.example`,
		Args: args(1, 1, "want one scenario: a file, or a name from relay-loadtest scenarios"),
		RunE: func(cmd *cobra.Command, a []string) error {
			s, err := c.read(a[0], cmd.Flags())
			if err != nil {
				return err
			}
			if err := o.check(); err != nil {
				return err
			}
			rep, err := o.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), s, &w)
			if rep == nil {
				return err
			}
			if werr := o.write(cmd.OutOrStdout(), rep); werr != nil {
				return errors.Join(err, werr)
			}
			if err != nil {
				return err
			}
			if code := rep.Verdict.ExitCode(); code != 0 && !w.stored {
				return exit(code)
			}
			return nil
		},
	}
	c.flags(cmd.Flags())
	o.flags(cmd)
	w.flags(cmd.Flags())
	return cmd
}

func (o *output) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.json, "json", "", "write the report as JSON (relay-loadtest schema describes it)")
	f.StringVar(&o.html, "html", "", "write the report as one HTML page that opens offline")
	f.StringVar(&o.prometheus, "prometheus", "", "serve metrics at http://ADDR/metrics during the run, e.g. 127.0.0.1:9095")
	f.StringSliceVar(&o.prometheusHosts, "prometheus-host", nil, "name, besides localhost and the address, by which Prometheus calls them")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "show no progress")
	f.StringVar(&o.dir, "dir", ".local", "folder of make up; its stack is the target if it is running")
}

// run does one run of any kind.
func (o *output) run(ctx context.Context, out, progress io.Writer, s *scenario.Scenario, w *workerFlags) (*result.Report, error) {
	begin, part, finish, err := w.prepare(ctx, s)
	if err != nil {
		return nil, err
	}
	pubs, subs := part.Participants()
	for _, warning := range probe.Limits(pubs + subs) {
		fmt.Fprintln(progress, "warning:", warning)
	}
	var last atomic.Pointer[result.Report]
	stop, err := o.serve(progress, &last)
	if err != nil {
		return nil, err
	}
	defer stop()
	cfg := run.DoConfig{Scenario: part, Dir: o.dir, Getenv: os.Getenv, Out: progress, Run: w.id, Begin: begin}
	closeView := func() {}
	if !o.quiet {
		f, is := progress.(*os.File)
		view := live.New(progress, is && isatty.IsTerminal(f.Fd()))
		cfg.Progress, closeView = view.Update, view.Close
		defer closeView()
	}
	if o.prometheus != "" { // nothing else reads the snapshots
		cfg.Publish = func(r *result.Report) { last.Store(r) }
	}
	rep, err := run.Do(ctx, cfg)
	closeView() // before the summary
	if rep == nil || err != nil {
		return rep, err
	}
	last.Store(rep)
	return rep, finish(ctx, rep, out)
}

// serve exposes the last snapshot to Prometheus.
func (o *output) serve(progress io.Writer, last *atomic.Pointer[result.Report]) (stop func(), err error) {
	if o.prometheus == "" {
		return func() {}, nil
	}
	lis, err := net.Listen("tcp", o.prometheus) //nolint:noctx // binding does not wait
	if err != nil {
		return nil, usage{fmt.Errorf("--prometheus: %w: name a free address, host:port", err)}
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", prom.Handler(last.Load))
	server := &http.Server{
		Handler: hostcheck.Handler(o.prometheusHosts, mux), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, MaxHeaderBytes: 16 << 10,
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(lis); !errors.Is(err, http.ErrServerClosed) {
			fmt.Fprintln(progress, "metrics:", err)
		}
	}()
	fmt.Fprintf(progress, "metrics at http://%s/metrics\n", lis.Addr())
	return func() {
		_ = server.Close() // the run is over
		<-done
	}, nil
}

// write shows the summary and writes the files.
func (o *output) write(out io.Writer, rep *result.Report) error {
	report.Summary(out, rep)
	if o.json != "" {
		if err := result.Write(o.json, rep); err != nil {
			return err
		}
		fmt.Fprintln(out, "report:", o.json)
	}
	if o.html != "" {
		if err := write(o.html, func(w io.Writer) error { return report.HTML(w, rep) }); err != nil {
			return err
		}
		fmt.Fprintln(out, "page:  ", o.html)
	}
	return nil
}
