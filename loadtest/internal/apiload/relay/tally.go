package relay

import (
	"cmp"
	"maps"
	"slices"
	"sync"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// maxKinds bounds the kinds that a Tally distinguishes, and maxText the length
// of a line in bytes, because a server may send any text.
const (
	maxKinds = 64
	maxText  = 300
)

// Tally counts errors by kind. Its zero value is ready and safe for concurrent
// use.
type Tally struct {
	mu    sync.Mutex
	kinds map[string]*result.ErrorLine
}

// Add counts an error of a kind, a short name from a small set; only the first
// text of a kind is kept, as an example.
func (t *Tally) Add(kind, text string) { t.AddN(kind, text, 1) }

// AddN counts n errors of a kind.
func (t *Tally) AddN(kind, text string, n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.kinds == nil {
		t.kinds = make(map[string]*result.ErrorLine)
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
			line = &result.ErrorLine{Text: all[:min(len(all), maxText)]}
			t.kinds[kind] = line
		}
	}
	line.Count += n
}

// Lines returns the kinds with their counts, the most frequent first.
func (t *Tally) Lines() []result.ErrorLine {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := make([]result.ErrorLine, 0, len(t.kinds))
	for line := range maps.Values(t.kinds) {
		lines = append(lines, *line)
	}
	slices.SortFunc(lines, func(a, b result.ErrorLine) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Text, b.Text))
	})
	return lines
}
