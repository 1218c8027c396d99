package scenario

import (
	"fmt"
	"strings"
)

// Problem is one thing that is wrong with a scenario.
type Problem struct {
	// Field is the path of the key, as in "media.video.width" or
	// "load.stages[2].target".
	Field string
	// Text says what is wrong with it, and what would be right.
	Text string
	// Line and Column are where the file has it, from 1; 0 where no file does.
	Line, Column int
}

// InvalidError has everything that is wrong with a scenario.
type InvalidError struct {
	Name     string // of the file, "" where there is none
	Problems []Problem
}

// Error has a line for each problem, "file:line:column: field: text".
func (e *InvalidError) Error() string {
	lines := make([]string, 0, len(e.Problems))
	for _, p := range e.Problems {
		var at strings.Builder
		if e.Name != "" {
			at.WriteString(e.Name + ":")
		}
		if p.Line > 0 {
			fmt.Fprintf(&at, "%d:%d:", p.Line, p.Column)
		}
		if at.Len() > 0 {
			at.WriteString(" ")
		}
		if p.Field != "" {
			at.WriteString(p.Field + ": ")
		}
		lines = append(lines, at.String()+p.Text)
	}
	return strings.Join(lines, "\n")
}

// place is where a file has a key, from 1; 0 for what Set gave.
type place struct{ line, column int }

// has says whether a file or Set gave a key, be it as 0.
func (s *Scenario) has(field string) bool {
	_, ok := s.given[field]
	return ok
}

// locate finds the place of a field, or of the nearest key around it that the
// file has.
func (s *Scenario) locate(field string) place {
	for field != "" {
		if at, ok := s.given[field]; ok {
			return at
		}
		field = field[:max(strings.LastIndexAny(field, ".["), 0)]
	}
	return place{}
}
