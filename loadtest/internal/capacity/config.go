package capacity

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// ErrConfig is returned for an invalid configuration.
var ErrConfig = errors.New("capacity: configuration")

// Config sets what to search, and how thoroughly.
type Config struct {
	// Min and Max bound the population, 1 <= Min <= Max. Max is tried too.
	Min, Max int
	// Resolution is the precision: the search ends when the smallest population
	// that does not hold is within this share of the largest that does. 0.001 to
	// 1, 0.05 by default.
	Resolution float64
	// Trials is the number of conclusive runs that decide about a population, 1
	// to 99, 3 by default. At most as many inconclusive ones are run in addition.
	Trials int
	// MaxRuns bounds all runs, 60 by default.
	MaxRuns int
	// Confidence of the intervals, 0.5 to 0.999, 0.9 by default.
	Confidence float64
	// Seed seeds the draws for the interval.
	Seed uint64
	// Unit names what is counted; "participants" by default.
	Unit string
	// Run does one run with a population of n and judges it. Calls do not
	// overlap. Run gives the system time to recover after an overload: the next n
	// may be smaller. An error counts like a report with result.Broken.
	Run func(ctx context.Context, n int) (*result.Report, error)
	// Progress, if not nil, is called when a trial begins and when it ends.
	Progress func(Event)
}

// Event is a step of the search.
type Event struct {
	Trial Trial // Result is "" at its beginning
	// Holds and Fails bound the capacity as known so far: the largest population
	// that held and the smallest that did not, 0 if there is none.
	Holds, Fails int
	Runs         int // begun so far
}

// filled returns the configuration with its defaults, or ErrConfig.
func (c Config) filled() (Config, error) {
	c.Unit = cmp.Or(c.Unit, "participants")
	c.Resolution = cmp.Or(c.Resolution, 0.05)
	c.Trials = cmp.Or(c.Trials, 3)
	c.MaxRuns = cmp.Or(c.MaxRuns, 60)
	c.Confidence = cmp.Or(c.Confidence, 0.9)
	if c.Progress == nil {
		c.Progress = func(Event) {}
	}
	for _, b := range []struct {
		ok   bool
		text string
	}{
		{c.Run != nil, "Run is missing"},
		{c.Min >= 1 && c.Min <= c.Max, fmt.Sprintf("populations from %d to %d: want 1 or greater, ascending", c.Min, c.Max)},
		{c.Resolution >= 0.001 && c.Resolution <= 1, fmt.Sprintf("resolution %v: want 0.001 to 1", c.Resolution)},
		{c.Trials >= 1 && c.Trials <= 99, fmt.Sprintf("%d trials: want 1 to 99", c.Trials)},
		{c.MaxRuns >= c.Trials, fmt.Sprintf("%d runs at most: want at least the %d trials of one population", c.MaxRuns, c.Trials)},
		{c.Confidence >= 0.5 && c.Confidence <= 0.999, fmt.Sprintf("confidence %v: want 0.5 to 0.999", c.Confidence)},
	} {
		if !b.ok {
			return c, fmt.Errorf("%w: %s", ErrConfig, b.text)
		}
	}
	return c, nil
}
