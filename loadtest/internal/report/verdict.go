package report

import (
	"fmt"
	"strings"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// words are a verdict in plain language: a mark, a word, and what it means.
type words struct{ Mark, Word, Means string }

func wordsOf(r *result.Report) words {
	switch r.Verdict.Result {
	case result.Pass:
		means := "Every threshold held"
		if len(r.Thresholds) == 0 {
			means = "The scenario has no thresholds"
		}
		if len(r.Verdict.Reasons) == 0 {
			return words{"✓", "Pass", means + ", and the generator kept up."}
		}
		return words{"✓", "Pass", means + "; see the notes below."}
	case result.Fail:
		return words{"✗", "Fail", "The system under test failed the scenario; the generator kept up."}
	case result.Inconclusive:
		return words{"?", "Inconclusive", "The numbers prove nothing about the system under test; the reasons follow."}
	case result.Broken:
		return words{"!", "Error", "The run itself failed: its numbers do not describe the scenario."}
	}
	return words{"·", "Not judged", "The numbers have no verdict yet, such as those of one worker's part."}
}

// aboutOf describes the run in one sentence.
func aboutOf(r *result.Report) string {
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

func checkValue(c result.Check) string {
	if c.Value == nil {
		return "not measured"
	}
	// The value is in the threshold's unit, so a percentage is already in
	// percent.
	if c.Unit == "%" {
		return percent(*c.Value / 100)
	}
	return figure(*c.Value, c.Unit)
}
