package report

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// Words of a comparison: what became of a figure from a to b.
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

// change is a figure in both reports.
type change struct {
	Path, Metric   string
	A, B           string
	Abs, Rel       string
	Word, Evidence string
}

// Class is for the style sheet.
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

// comparison is all that is said about two reports.
type comparison struct {
	A, B *Report
	// Not are the reasons why the two cannot be compared; Remarks what to bear
	// in mind.
	Not, Remarks []string
	Changes      []change
	Same         int // figures that are equal
}

// Compare writes what differs from a to b, path by path, as a table: the
// change, whether it is better or worse in words, and whether it is within
// noise. Noise is judged from the seconds of both runs where there are any,
// and stated per line by what; it is the noise within these two runs, so a
// difference between two days of a machine is not in it. Reports of different
// scenarios or machines, or with an inconclusive one, are shown without a
// judgement and with the reason.
func Compare(w io.Writer, a, b *Report) error {
	c := compare(a, b)
	var out strings.Builder
	fmt.Fprintf(&out, "A  %s: %s\nB  %s: %s\n", title(a), a.words().Word, title(b), b.words().Word)
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

func title(r *Report) string {
	return fmt.Sprintf("%s, %s, %s %s", r.Name, r.Started.UTC().Format("2006-01-02 15:04:05"), r.Tool.Name, r.Tool.Version)
}

func compare(a, b *Report) comparison {
	c := comparison{A: a, B: b}
	c.Not, c.Remarks = comparability(a, b)
	var names []string
	for _, r := range []*Report{a, b} {
		for _, p := range r.shown() {
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

// measured is a figure of one report with what is known of its spread.
type measured struct {
	v      float64
	ok     bool
	blocks []float64
	hist   *Hist
}

func measure(r *Report, p *Path, m metric) measured {
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
		return "The figures stand side by side below, without a judgement."
	}
	n := map[string]int{}
	for _, x := range c.Changes {
		n[x.Word]++
	}
	return fmt.Sprintf("From A to B: %d better, %d worse, %d within noise, %d the same.", n[wordBetter], n[wordWorse], n[wordNoise], c.Same)
}
