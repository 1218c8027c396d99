package participant

import (
	"sync"
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// Lag is a distribution of durations. It is safe for concurrent use.
type Lag struct {
	mu   sync.Mutex
	hist *result.Hist
}

// NewLag returns an empty distribution.
func NewLag() *Lag { return &Lag{hist: result.NewHist()} }

// Observe adds a duration.
func (l *Lag) Observe(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hist.Record(d)
}

// Drain adds the distribution to into and empties it.
func (l *Lag) Drain(into *result.Hist) {
	l.mu.Lock()
	defer l.mu.Unlock()
	into.Add(l.hist)
	l.hist.Reset()
}
