package measure

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Number is a figure; NaN means none and is null in JSON.
type Number float64

// None is the figure of what could not be measured.
func None() Number { return Number(math.NaN()) }

// MarshalJSON writes four significant digits; more would suggest a precision
// that the figures lack.
func (n Number) MarshalJSON() ([]byte, error) {
	f := float64(n)
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return []byte("null"), nil
	}
	return json.Marshal(round(f))
}

// UnmarshalJSON reads what MarshalJSON writes.
func (n *Number) UnmarshalJSON(p []byte) error {
	if string(p) == "null" {
		*n = None()
		return nil
	}
	return json.Unmarshal(p, (*float64)(n))
}

func round(f float64) float64 {
	r, _ := strconv.ParseFloat(strconv.FormatFloat(f, 'g', 4, 64), 64) // FormatFloat's own text always parses
	return r
}

// String returns the number as the table shows it.
func (n Number) String() string {
	if math.IsNaN(float64(n)) {
		return "-"
	}
	return strconv.FormatFloat(round(float64(n)), 'f', -1, 64)
}

// Bound is the side of the target on which a value must lie.
type Bound string

// The bounds.
const (
	AtMost  Bound = "<="
	AtLeast Bound = ">="
	// Untargeted results explain others and have no target; they are always met.
	Untargeted Bound = ""
)

// Quiet is the share of the machine that others may use while a latency or a
// rate is measured.
const Quiet = 0.1

// Result is one entry of bench/results.json.
type Result struct {
	Name  string `json:"name"`
	Value Number `json:"value"`
	Unit  string `json:"unit"`
	// Target is the design's target, null if it has none.
	Target Number `json:"target"`
	Met    bool   `json:"met"`
	Bound  Bound  `json:"bound,omitempty"`
	// Ours and Baseline are the two sides of a ratio, in SideUnit.
	Ours     *Number `json:"ours,omitempty"`
	Baseline *Number `json:"baseline,omitempty"`
	SideUnit string  `json:"side_unit,omitempty"`
	// Rounds is the number of values of which Value is the median, and Spread the
	// distance between their quartiles, relative to the median.
	Rounds int    `json:"rounds,omitempty"`
	Spread Number `json:"spread,omitzero"`
	// Noise is the share of the machine that others used meanwhile, 0 to 1. Above
	// Quiet, latencies and rates mean little.
	Noise Number `json:"noise"`
	// Missing is the reason why there is no value.
	Missing string `json:"missing,omitempty"`
	Note    string `json:"note,omitempty"`
}

// Judge returns the result with the target and whether the value meets it.
func (r Result) Judge(b Bound, target float64) Result {
	r.Bound, r.Target = b, Number(target)
	switch b {
	case AtMost:
		r.Met = float64(r.Value) <= target
	case AtLeast:
		r.Met = float64(r.Value) >= target
	case Untargeted:
		r.Target, r.Met = None(), true
	}
	return r
}

// Of returns a result whose value is the median of a sample.
func Of(name, unit string, s Sample) Result {
	return Result{Name: name, Value: Number(s.Median()), Unit: unit, Target: None(), Rounds: len(s), Spread: Number(s.Spread())}
}

// Compare returns a result whose value is the median of the ratios of each
// round.
func Compare(name, sideUnit string, ours, baseline Sample) Result {
	r := Of(name, "ratio", Ratios(ours, baseline))
	o, b := Number(ours.Median()), Number(baseline.Median())
	r.Ours, r.Baseline, r.SideUnit = &o, &b, sideUnit
	return r
}

// Absent returns a result without a value.
func Absent(name, unit, why string) Result {
	return Result{Name: name, Value: None(), Unit: unit, Target: None(), Missing: why}
}

// Write replaces a file with the results as a JSON list, atomically.
func Write(path string, results []Result) (err error) {
	var raw bytes.Buffer
	enc := json.NewEncoder(&raw)
	enc.SetEscapeHTML(false) // people read "<=", too
	enc.SetIndent("", "  ")
	if err := enc.Encode(results); err != nil {
		return fmt.Errorf("results: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("results: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".results-*")
	if err != nil {
		return fmt.Errorf("results: %w", err)
	}
	_, err = f.Write(raw.Bytes())
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("results: %w", errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

// Table prints the results for a person.
func Table(w io.Writer, results []Result) error {
	tabs := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	var t io.Writer = tabs
	fmt.Fprintln(t, "name\tours\tbaseline\tvalue\ttarget\tmet\tspread\tothers")
	for _, r := range results {
		met := "no"
		switch {
		case r.Missing != "":
			met = "not measured: " + short(r.Missing)
		case r.Bound == Untargeted:
			met = ""
		case r.Met:
			met = "yes"
		}
		target := ""
		if r.Bound != Untargeted {
			target = string(r.Bound) + " " + r.Target.String()
		}
		spread := ""
		if r.Rounds > 1 {
			spread = fmt.Sprintf("%.0f%% of %d", 100*float64(r.Spread), r.Rounds)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s %s\t%s\t%s\t%s\t%s\n", r.Name, side(r.Ours, r.SideUnit), side(r.Baseline, r.SideUnit), r.Value, r.Unit, target, met, spread, noisy(r.Noise))
	}
	fmt.Fprintf(t, "\nothers: how much of the machine other processes used meanwhile; above %.0f%% (!) latencies and rates mean little\n", 100*Quiet)
	return tabs.Flush()
}

func noisy(n Number) string {
	mark := ""
	if float64(n) > Quiet {
		mark = " !"
	}
	return fmt.Sprintf("%.0f%%%s", 100*float64(n), mark)
}

// short shortens a reason to fit the table; the file has all of it.
func short(text string) string {
	const most = 60
	text, _, _ = strings.Cut(text, "\n")
	if r := []rune(text); len(r) > most {
		return string(r[:most]) + "..."
	}
	return text
}

func side(n *Number, unit string) string {
	if n == nil {
		return ""
	}
	return n.String() + " " + unit
}
