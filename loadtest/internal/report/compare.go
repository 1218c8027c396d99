package report

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/services/format/printable"
)

// The outcomes of comparing a figure of report A with the same figure of B.
const (
	wordSame    = "same"
	wordNoise   = "within noise"
	wordBetter  = "better"
	wordWorse   = "worse"
	wordDiffers = "differs" // neither is better
	wordOnlyA   = "only in A"
	wordOnlyB   = "only in B"
	wordNot     = "not comparable"
)

// change is one compared figure.
type change struct {
	Path, Metric   string
	A, B           string
	Abs, Rel       string
	Word, Evidence string
}

// Class returns the CSS class of the word.
func (c change) Class() string {
	switch c.Word {
	case wordBetter:
		return "good"
	case wordWorse:
		return "bad"
	case wordNot, wordOnlyA, wordOnlyB:
		return "unsure"
	}
	return ""
}

// comparison is everything that a table or page shows about two reports.
type comparison struct {
	A, B *result.Report
	// Not are the reasons why the reports cannot be compared; Remarks are what a
	// reader has to take into account.
	Not, Remarks []string
	Changes      []change
	Same         int // figures that are equal
}

// Compare writes the figures that differ between a and b, path by path, as a
// table: the change, whether it is better or worse, and whether it is within
// noise. Noise is estimated from the seconds of both runs if the reports have
// them; each line names its test. It is the noise within these two runs and
// excludes differences between two days on a machine. If the reports are of
// different scenarios or machines, or one is inconclusive, Compare shows the
// figures with the reason and does not judge them.
func Compare(w io.Writer, a, b *result.Report) error {
	a, b = printable.Copy(a), printable.Copy(b) // others wrote these files
	c := compare(a, b)
	var out strings.Builder
	fmt.Fprintf(&out, "A  %s: %s\nB  %s: %s\n", title(a), wordsOf(a).Word, title(b), wordsOf(b).Word)
	for _, s := range c.Not {
		fmt.Fprintf(&out, "NOT COMPARABLE: %s\n", s)
	}
	for _, s := range c.Remarks {
		fmt.Fprintf(&out, "note: %s\n", s)
	}
	fmt.Fprintf(&out, "%s\n\n", c.summary())
	tabs := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(tabs, "path\tfigure\tA\tB\tchange\t\tverdict\tby")
	for _, x := range c.Changes {
		_, _ = fmt.Fprintf(tabs, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", x.Path, x.Metric, x.A, x.B, x.Abs, x.Rel, x.Word, x.Evidence)
	}
	if err := tabs.Flush(); err != nil {
		return fmt.Errorf("comparison: %w", err)
	}
	if _, err := io.WriteString(w, strings.ReplaceAll(out.String(), "\u202f", " ")); err != nil {
		return fmt.Errorf("comparison: %w", err)
	}
	return nil
}

func title(r *result.Report) string {
	return fmt.Sprintf("%s, %s, %s %s", r.Name, r.Started.UTC().Format("2006-01-02 15:04:05"), r.Tool.Name, r.Tool.Version)
}

func compare(a, b *result.Report) comparison {
	c := comparison{A: a, B: b}
	c.Not, c.Remarks = comparability(a, b)
	var names []string
	for _, r := range []*result.Report{a, b} {
		for _, p := range shownPaths(r) {
			if !slices.Contains(names, p.Name) && p.Name != "" {
				names = append(names, p.Name)
			}
		}
	}
	for _, name := range names {
		pa, pb := a.Path(name), b.Path(name)
		for _, m := range metrics() {
			c.add(name, m.name, m.unit, m.better, measure(a, pa, m), measure(b, pb, m), m)
		}
	}
	for _, name := range processNames(a, b) {
		for _, m := range processMetrics(name) {
			c.add(name, m.name, m.unit, m.better, measure(a, &a.Total, m), measure(b, &b.Total, m), m)
		}
	}
	return c
}

// measured is a figure of one report and what is known about its spread.
type measured struct {
	v      float64
	ok     bool
	blocks []float64
	hist   *result.Hist
}

func measure(r *result.Report, p *result.Path, m metric) measured {
	if p == nil {
		return measured{}
	}
	var out measured
	out.v, out.ok = m.of(r, p)
	if m.dist != nil {
		out.hist = m.dist(p)
	}
	if m.seconds != nil {
		out.blocks = blocks(m.seconds(r))
	} else if m.series != nil {
		out.blocks = blocks(seriesOf(r, p.Name, m))
	}
	return out
}

func (c *comparison) add(path, name, unit string, better int, a, b measured, m metric) {
	x := change{Path: path, Metric: name, A: none, B: none}
	if a.ok {
		x.A = figure(a.v, unit)
	}
	if b.ok {
		x.B = figure(b.v, unit)
	}
	switch {
	case !a.ok && !b.ok:
		return
	case !b.ok:
		x.Word = wordOnlyA
	case !a.ok:
		x.Word = wordOnlyB
	case a.v == b.v:
		c.Same++
		return
	default:
		x.Abs = signed(b.v-a.v, unit)
		if a.v != 0 {
			x.Rel = relative(b.v/a.v - 1)
		}
		noise, by := within(a, b, m)
		x.Evidence = by
		switch {
		case len(c.Not) > 0:
			x.Word, x.Evidence = wordNot, ""
		case noise:
			x.Word = wordNoise
		case better == either:
			x.Word = wordDiffers
		case (b.v > a.v) == (better == higher):
			x.Word = wordBetter
		default:
			x.Word = wordWorse
		}
	}
	c.Changes = append(c.Changes, x)
}

func relative(share float64) string {
	if math.Abs(share) >= 9.995 {
		return fmt.Sprintf("×%.3g", share+1)
	}
	return signed(share, unitShare)
}

func (c comparison) summary() string {
	if len(c.Not) > 0 {
		return "The figures below are side by side and not judged."
	}
	n := map[string]int{}
	for _, x := range c.Changes {
		n[x.Word]++
	}
	return fmt.Sprintf("From A to B: %d better, %d worse, %d within noise, %d the same.", n[wordBetter], n[wordWorse], n[wordNoise], c.Same)
}
