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

	"github.com/openova-io/bp-relay/loadtest/probe"
	"github.com/openova-io/bp-relay/loadtest/report"
	"github.com/openova-io/bp-relay/loadtest/report/live"
	"github.com/openova-io/bp-relay/loadtest/report/prom"
	"github.com/openova-io/bp-relay/loadtest/run"
	"github.com/openova-io/bp-relay/loadtest/scenario"
)

// output says what a run leaves behind.
type output struct {
	json, html, prometheus string
	quiet                  bool
	dir                    string
}

func runCommand() *cobra.Command {
	var c chosen
	var o output
	var w workerFlags
	cmd := &cobra.Command{
		Use:   "run SCENARIO",
		Short: "Run a scenario: a YAML file, or the name of a ready one",
		Long: `run does a scenario and judges it by its thresholds.

Exit code 0: all thresholds hold. 99: one does not. 3: inconclusive, since the
generator itself was the bottleneck, or a threshold's figure was not measured;
the reasons are named. 1: the run failed (nobody joined, media took another
path than it should, a packet's fate is unexplained). 2: a mistake in the
scenario or the flags. 130: interrupted.

A worker of several (--worker, --store) writes its part to the store, and
"relay-loadtest report merge" adds the parts; see docs/workers.md.`,
		Example: `  relay-loadtest run smoke --json out.json --html out.html
  relay-loadtest run meeting --local --path turn-tls --subscribers 50
  relay-loadtest run soak --prometheus 127.0.0.1:9095
  LIVEKIT_API_KEY=... LIVEKIT_API_SECRET=... relay-loadtest run livestream --livekit wss://sfu.example`,
		Args: args(1, 1, "one scenario is wanted: a file, or a ready one of relay-loadtest scenarios"),
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
	f.StringVar(&o.prometheus, "prometheus", "", "serve metrics at http://ADDR/metrics meanwhile, e.g. 127.0.0.1:9095")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "no progress")
	f.StringVar(&o.dir, "dir", ".local", "folder of make up, whose stack is taken when it runs")
}

// run does one run of any kind.
func (o *output) run(ctx context.Context, out, progress io.Writer, s *scenario.Scenario, w *workerFlags) (*report.Report, error) {
	begin, part, finish, err := w.prepare(ctx, s)
	if err != nil {
		return nil, err
	}
	pubs, subs := part.Participants()
	for _, warning := range probe.Limits(pubs + subs) {
		fmt.Fprintln(progress, "warning:", warning)
	}
	var last atomic.Pointer[report.Report]
	stop, err := o.serve(progress, &last)
	if err != nil {
		return nil, err
	}
	defer stop()
	var view *live.View
	if !o.quiet {
		f, is := progress.(*os.File)
		view = live.New(progress, is && isatty.IsTerminal(f.Fd()))
		defer view.Close()
	}
	cfg := run.DoConfig{Scenario: part, Dir: o.dir, Getenv: os.Getenv, Out: progress, View: view, Run: w.id, Begin: begin}
	if o.prometheus != "" { // a snapshot each second is for nobody else
		cfg.Publish = func(r *report.Report) { last.Store(r) }
	}
	rep, err := run.Do(ctx, cfg)
	if view != nil {
		view.Close()
	}
	if rep == nil || err != nil {
		return rep, err
	}
	last.Store(rep)
	return rep, finish(ctx, rep, out)
}

// serve shows the last snapshot to Prometheus.
func (o *output) serve(progress io.Writer, last *atomic.Pointer[report.Report]) (stop func(), err error) {
	if o.prometheus == "" {
		return func() {}, nil
	}
	lis, err := net.Listen("tcp", o.prometheus) //nolint:noctx // binding does not wait
	if err != nil {
		return nil, usage{fmt.Errorf("--prometheus: %w: name a free address, host:port", err)}
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", prom.Handler(last.Load))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
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
func (o *output) write(out io.Writer, rep *report.Report) error {
	report.Summary(out, rep)
	if o.json != "" {
		if err := report.Write(o.json, rep); err != nil {
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
