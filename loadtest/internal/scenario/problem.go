package scenario

import (
	"fmt"
	"strings"
)

// Problem is one error in a scenario.
type Problem struct {
	// Field is the path of the key, as in "media.video.width" or
	// "load.stages[2].target".
	Field string
	// Text says what is wrong, and what is right.
	Text string
	// Line and Column are its position in the file, from 1; 0 if it is in no file.
	Line, Column int
}

// InvalidError has all errors in a scenario.
type InvalidError struct {
	Name     string // of the file, "" if there is none
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

// place is the position of a key in a file, from 1; 0 for keys that Set gave.
type place struct{ line, column int }

// has reports whether a file or Set gave a key, even as 0.
func (s *Scenario) has(field string) bool {
	_, ok := s.given[field]
	return ok
}

// locate returns the position of a field, or of the nearest enclosing key in the
// file.
func (s *Scenario) locate(field string) place {
	for field != "" {
		if at, ok := s.given[field]; ok {
			return at
		}
		field = field[:max(strings.LastIndexAny(field, ".["), 0)]
	}
	return place{}
}
