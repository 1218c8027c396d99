package capacity

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/openova-io/bp-relay/loadtest/report"
)

// ErrConfig: the search was not described well.
var ErrConfig = errors.New("capacity: configuration")

// Config says what is searched, and how hard.
type Config struct {
	// Min and Max bound the population, 1 <= Min <= Max. Max is tried too.
	Min, Max int
	// Resolution is how close the search comes: it ends when the smallest
	// population that does not hold is within this share of the largest that
	// does. 0.05 by default, 0.001 to 1.
	Resolution float64
	// Trials is how many runs decide about a population, 3 by default, 1 to 99.
	// Inconclusive ones do not count; there are as many more at most.
	Trials int
	// MaxRuns bounds all runs, 60 by default.
	MaxRuns int
	// Confidence of the intervals, 0.9 by default, 0.5 to 0.999.
	Confidence float64
	// Seed of the draws for the interval.
	Seed uint64
	// Unit is what is counted, in words; "participants" by default.
	Unit string
	// Run does one run with n of them and judges it. It is never called
	// twice at once. It gives the system time to recover after an overload: what
	// is asked next may be less. An error counts like a report with
	// report.Broken.
	Run func(ctx context.Context, n int) (*report.Report, error)
	// Progress, when it is not nil, is told of each trial as it begins and ends.
	Progress func(Event)
}

// Event is a step of the search.
type Event struct {
	Trial Trial // Result is "" when it begins
	// Holds and Fails bound the capacity as it is known so far: the largest
	// population that held, 0 with none, and the smallest that did not, 0 with
	// none.
	Holds, Fails int
	Runs         int // begun so far
}

// filled has the defaults in, or an error that is ErrConfig.
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
		{c.Min >= 1 && c.Min <= c.Max, fmt.Sprintf("populations from %d to %d: must be 1 or more, ascending", c.Min, c.Max)},
		{c.Resolution >= 0.001 && c.Resolution <= 1, fmt.Sprintf("resolution %v: must be 0.001 to 1", c.Resolution)},
		{c.Trials >= 1 && c.Trials <= 99, fmt.Sprintf("%d trials: must be 1 to 99", c.Trials)},
		{c.MaxRuns >= c.Trials, fmt.Sprintf("%d runs at most: must be as many as the %d trials of one population", c.MaxRuns, c.Trials)},
		{c.Confidence >= 0.5 && c.Confidence <= 0.999, fmt.Sprintf("confidence %v: must be 0.5 to 0.999", c.Confidence)},
	} {
		if !b.ok {
			return c, fmt.Errorf("%w: %s", ErrConfig, b.text)
		}
	}
	return c, nil
}
