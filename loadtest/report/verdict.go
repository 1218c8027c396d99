package report

import (
	"fmt"
	"strings"
)

// words are a verdict in plain language: a mark, a word, and what it means.
type words struct{ Mark, Word, Means string }

func (r *Report) words() words {
	switch r.Verdict.Result {
	case Pass:
		means := "Every threshold held"
		if len(r.Thresholds) == 0 {
			means = "There was no threshold to break"
		}
		if len(r.Verdict.Reasons) == 0 {
			return words{"✓", "Pass", means + ", and the generator kept up."}
		}
		return words{"✓", "Pass", means + "; mind what is said below."}
	case Fail:
		return words{"✗", "Fail", "The installation did not do what was asked of it; the generator kept up."}
	case Inconclusive:
		return words{"?", "Inconclusive", "These numbers say nothing certain about the installation, for the reasons below."}
	case Broken:
		return words{"!", "Error", "The run itself failed: its numbers are not those of the scenario."}
	}
	return words{"·", "Not judged", "These are numbers without a verdict, as of one worker's part."}
}

// about is the run in a sentence.
func (r *Report) about() string {
	var parts []string
	if n := len(r.Paths); n > 0 {
		parts = append(parts, plural(n, "path"))
	}
	if r.Total.Publishers > 0 {
		parts = append(parts, plural(r.Total.Publishers, "publisher"))
	}
	if r.Total.Subscribers > 0 {
		parts = append(parts, plural(r.Total.Subscribers, "subscriber"))
	}
	parts = append(parts, lasted(r.Seconds), plural(max(len(r.Parts), 1), "worker"))
	return fmt.Sprintf("%s: %s", r.Kind, strings.Join(parts, ", "))
}

func (c Check) value() string {
	if c.Value == nil {
		return "not measured"
	}
	// Its unit is the threshold's, so a percentage is in percent already.
	if c.Unit == "%" {
		return percent(*c.Value / 100)
	}
	return figure(*c.Value, c.Unit)
}
