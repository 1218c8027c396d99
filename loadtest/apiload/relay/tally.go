package relay

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"github.com/openova-io/bp-relay/loadtest/report"
)

// maxKinds bounds the kinds that a Tally keeps apart, and maxText the length of
// a line in bytes: what a server says is not ours to bound otherwise.
const (
	maxKinds = 64
	maxText  = 300
)

// Tally counts errors by kind. Its zero value is ready and safe for concurrent
// use.
type Tally struct {
	mu    sync.Mutex
	kinds map[string]*report.ErrorLine
}

// Add counts an error of a kind, a short name with few values; text is kept of
// the first one only, as an example.
func (t *Tally) Add(kind, text string) { t.AddN(kind, text, 1) }

// AddN counts n of them.
func (t *Tally) AddN(kind, text string, n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.kinds == nil {
		t.kinds = make(map[string]*report.ErrorLine)
	}
	line := t.kinds[kind]
	if line == nil {
		if len(t.kinds) >= maxKinds {
			kind, text = "other", "errors of other kinds"
			line = t.kinds[kind]
		}
		if line == nil {
			all := kind
			if text != "" && text != kind {
				all += ": " + text
			}
			line = &report.ErrorLine{Text: all[:min(len(all), maxText)]}
			t.kinds[kind] = line
		}
	}
	line.Count += n
}

// Lines are the kinds, the most frequent first.
func (t *Tally) Lines() []report.ErrorLine {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := make([]report.ErrorLine, 0, len(t.kinds))
	for line := range maps.Values(t.kinds) {
		lines = append(lines, *line)
	}
	slices.SortFunc(lines, func(a, b report.ErrorLine) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Text, b.Text))
	})
	return lines
}
