package report

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/services/format/printable"

	"github.com/openova-io/bp-relay/loadtest/internal/report/plot"
)

// Summary writes the result of a run as plain text: the verdict, one line per
// path, the cost of TURN, the lost packets, and the generator's health. Lines
// have at most 80 columns, except long thresholds and reasons. It ignores write
// errors.
func Summary(w io.Writer, r *result.Report) {
	var out strings.Builder
	r = printable.Copy(r) // much of it is what other programs said
	words := wordsOf(r)
	fmt.Fprintf(&out, "\n%s %s  %s\n", words.Mark, strings.ToUpper(words.Word), r.Name)
	fmt.Fprintf(&out, "  %s\n  %s\n", words.Means, aboutOf(r))
	for _, s := range r.Verdict.Reasons {
		fmt.Fprintf(&out, "  - %s\n", s)
	}
	summaryChecks(&out, r)
	summaryPaths(&out, r)
	summaryCosts(&out, r)
	summaryLosses(&out, r)
	summaryHealth(&out, r)
	for i, e := range r.Errors {
		if i == 0 {
			fmt.Fprintf(&out, "\nerrors\n")
		}
		if i == 5 {
			fmt.Fprintf(&out, "  and %d other kinds\n", len(r.Errors)-i)
			break
		}
		fmt.Fprintf(&out, "  %6s × %s\n", count(e.Count), e.Text)
	}
	// A terminal's font may lack the thin space.
	fmt.Fprint(w, strings.ReplaceAll(out.String(), "\u202f", " "))
}

func columns(out io.Writer, head string, rows func(tabs io.Writer)) {
	fmt.Fprintln(out)
	tabs := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(tabs, head)
	rows(tabs)
	_ = tabs.Flush() // writes to memory do not fail
}

func summaryChecks(out io.Writer, r *result.Report) {
	if len(r.Thresholds) == 0 {
		return
	}
	columns(out, "threshold\tmeasured\t", func(tabs io.Writer) {
		for _, c := range r.Thresholds {
			word := "✗ broken"
			switch {
			case c.Passed:
				word = "✓ held"
			case c.Value == nil:
				word = "? not measured"
			}
			_, _ = fmt.Fprintf(tabs, "%s\t%s\t%s\n", c.Expr, checkValue(c), word)
		}
	})
}

func summaryPaths(out io.Writer, r *result.Report) {
	if r.Total.Calls != nil && r.Total.Received.Expected == 0 {
		columns(out, "path\tcalls\tfailed\tdue, not started\tp50\tp99\tp99.9", func(tabs io.Writer) {
			for _, p := range shownPaths(r) {
				if c := p.Calls; c != nil {
					_, _ = fmt.Fprintf(tabs, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", p.Name, count(c.Succeeded), count(c.Failed), count(c.Dropped), quantile(c.Time, .5), quantile(c.Time, .99), quantile(c.Time, .999))
				}
			}
		})
		if u := r.Total.Calls.Update; u.Count() > 0 {
			fmt.Fprintf(out, "updates from guacd to the browser's end: p50 %s, p99 %s, p99.9 %s\n", quantile(u, .5), quantile(u, .99), quantile(u, .999))
		}
		return
	}
	columns(out, "path\tpub/sub\treceived\tloss\tp50\tp99\tp99.9\tjoin", func(tabs io.Writer) {
		for _, p := range shownPaths(r) {
			rate, loss := none, none
			if p.Received.Expected > 0 && r.Seconds > 0 {
				rate, loss = figure(float64(p.Received.MeasuredBytes)*8/r.Seconds, unitBps), percent(p.Loss())
			}
			_, _ = fmt.Fprintf(tabs, "%s\t%d/%d\t%s\t%s\t%s\t%s\t%s\t%s\n", p.Name, p.Publishers, p.Subscribers, rate, loss,
				quantile(p.Latency, .5), quantile(p.Latency, .99), quantile(p.Latency, .999), quantile(p.Joins.Time, .5))
		}
	})
	if got := r.Total.Received; got.Expected > 0 {
		fmt.Fprintf(out, "freezes %s, %s in all; broken frames %s; joins failed %d, not started %d\n",
			count(got.Freezes), lasted(got.FreezeSeconds), count(got.FramesBroken), r.Total.Joins.Failed, r.Total.Joins.Dropped)
		if n := r.Total.Joins.Reconnects; n > 0 {
			fmt.Fprintf(out, "participants that were disconnected: %d\n", n)
		}
	}
	if rec := r.Total.Recordings; rec != nil {
		fmt.Fprintf(out, "recordings: %d started, %d sealed, %d failed; %s, %d gaps; sealed after %s (p99)\n",
			rec.Started, rec.Sealed, rec.Failed, figure(float64(rec.Bytes), unitBytes), rec.Gaps, quantile(rec.Stop, .99))
	}
}

func quantile(h *result.Hist, q float64) string {
	if h.Count() == 0 {
		return none
	}
	return millis(result.Ms(h.Quantile(q)))
}

func summaryCosts(out io.Writer, r *result.Report) {
	if len(r.Taxes) > 0 {
		columns(out, "TURN costs\tcpu\tp50\tp99\tloss\tjoin p50", func(tabs io.Writer) {
			for _, t := range r.Taxes {
				_, _ = fmt.Fprintf(tabs, "%s\t%s\t%s\t%s\t%s\t%s\n", t.Path, cost(t.TurnCPUSecondsPerGbit), signed(t.LatencyP50Ms, unitMs),
					signed(t.LatencyP99Ms, unitMs), signed(t.LossPoints, unitShare), signed(t.JoinP50Ms, unitMs))
			}
		})
	}
	if len(r.Processes) > 0 {
		columns(out, "process\tcores\tmemory\tcpu per Gbit", func(tabs io.Writer) {
			for _, p := range r.Processes {
				name := p.Name
				if p.Host != "" {
					name += "@" + p.Host
				}
				_, _ = fmt.Fprintf(tabs, "%s\t%s\t%s\t%s\n", name, plot.Short(p.Cores), figure(float64(p.RSSBytes), unitBytes), cost(p.CPUSecondsPerGbit))
			}
		})
	}
}

func summaryLosses(out io.Writer, r *result.Report) {
	if len(r.LossAttribution) == 0 {
		return
	}
	columns(out, "lost packets\tour send\tto the SFU\tafter it\tour receive\tunexplained", func(tabs io.Writer) {
		for _, f := range flows(r) {
			_, _ = fmt.Fprintf(tabs, "%s", f.Path)
			for _, hop := range result.Hops() {
				text := none
				for _, h := range r.LossAttribution {
					if h.Path == f.Path && h.Hop == hop {
						text = count(h.Packets)
					}
				}
				_, _ = fmt.Fprintf(tabs, "\t%s", text)
			}
			fmt.Fprintln(tabs)
		}
	})
}

func summaryHealth(out io.Writer, r *result.Report) {
	s := r.Self
	fmt.Fprintf(out, "\ngenerator: sent late %s (p99), waited for cpu %s (mean),\n  machine busy %s, steal %s, gc %s;\n",
		quantile(s.Lag, .99), millis(s.RunWaitMs), percent(s.Busy), percent(s.Steal), percent(s.GC))
	fmt.Fprintf(out, "  dropped by our sockets %s, by our queues %s, failed sends %s\n", count(s.SocketDrops), count(s.QueueDrops), count(s.SendErrors))
	for _, n := range r.Provenance.Notes {
		fmt.Fprintf(out, "note: %s\n", n)
	}
}
