package capacity

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/result"

	"github.com/openova-io/bp-relay/services/format/printable"
)

// Sentence states the result in words.
func (r Result) Sentence() string {
	var b strings.Builder
	switch r.Verdict {
	case Found:
		fmt.Fprintf(&b, "capacity: %d %s (%s); %d did not hold", r.Capacity, r.Unit, r.bounds(), r.Fails)
	case AtLeast:
		fmt.Fprintf(&b, "capacity: at least %d %s; %s", r.Capacity, r.Unit, r.limit())
		if r.Fails > 0 {
			fmt.Fprintf(&b, "; %d did not hold", r.Fails)
		}
	case None:
		fmt.Fprintf(&b, "capacity: none; even %d %s do not hold", r.Fails, r.Unit)
	default:
		fmt.Fprintf(&b, "capacity: unknown; %s", r.limit())
	}
	if r.Exhausted {
		b.WriteString("; the search ended early, so the true capacity may be well above")
	}
	fmt.Fprintf(&b, ". %d runs in %v.", r.Runs, r.Took.Round(time.Second))
	return b.String()
}

func (r Result) bounds() string {
	low, high := fmt.Sprintf("%.0f", math.Floor(r.Low)), fmt.Sprintf("%.0f", math.Ceil(r.High))
	if r.LowOpen {
		low = "below the smallest tried"
	}
	if r.HighOpen {
		high = "above the largest tried"
	}
	return fmt.Sprintf("%.0f %%: %s to %s", r.Confidence*100, low, high)
}

func (r Result) limit() string {
	switch r.Limit {
	case LimitMax:
		return "this was the largest population to try"
	case LimitGenerator:
		return fmt.Sprintf("the runs at %d were inconclusive: %s", r.LimitAt, r.why(r.LimitAt))
	case LimitBroken:
		return fmt.Sprintf("the runs at %d failed by themselves: see their reasons", r.LimitAt)
	}
	if r.Limit == LimitStopped {
		return "the search was stopped"
	}
	return "the number of runs was used up"
}

// why returns the first reason of the last inconclusive run of n.
func (r Result) why(n int) string {
	for _, t := range slices.Backward(r.Trials) {
		if t.N == n && t.Result == result.Inconclusive && len(t.Reasons) > 0 {
			return t.Reasons[0]
		}
	}
	return "no reason was given"
}

// WriteText writes the result as a sentence and a table of the levels.
func (r Result) WriteText(w io.Writer) error {
	r = printable.Copy(r) // what LiveKit said is in it
	if _, err := fmt.Fprintln(w, r.Sentence()); err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintf(t, "%s\tpassed\tfailed\tinconclusive\tbroken\tpass share\t%.0f %% (Wilson)\tfit\t\n", r.Unit, r.Confidence*100)
	for _, l := range r.Levels {
		share, fit := "-", "-"
		if n := l.conclusive(); n > 0 {
			share = fmt.Sprintf("%.2f", float64(l.Passed)/float64(n))
		}
		if l.Fit != nil {
			fit = fmt.Sprintf("%.2f", *l.Fit)
		}
		_, _ = fmt.Fprintf(t, "%d\t%d\t%d\t%d\t%d\t%s\t%.2f to %.2f\t%s\t\n", l.N, l.Passed, l.Failed, l.Inconclusive, l.Broken, share, l.Low, l.High, fit)
	}
	return t.Flush()
}
