package judge

import (
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// Watch ends a run early by the thresholds with abort, as k6's abortOnFail does. It
// keeps no state, so it is safe for concurrent use.
type Watch struct{ rules []Rule }

// NewWatch returns a watch for the thresholds with abort. It returns the error of
// the first threshold that cannot be parsed.
func NewWatch(rules []string) (*Watch, error) {
	w := &Watch{}
	for _, text := range rules {
		r, err := Parse(text)
		if err != nil {
			return nil, err
		}
		if r.Abort {
			w.rules = append(w.rules, r)
		}
	}
	return w, nil
}

// Empty reports whether no threshold can end the run, so that no snapshots are
// needed.
func (w *Watch) Empty() bool { return len(w.rules) == 0 }

// Broken returns the checks that end the run now: at is the time since the measured
// part began, r the report so far. A metric that was not measured ends nothing. The
// run's verdict is still [Judge]'s: it may be inconclusive.
func (w *Watch) Broken(at time.Duration, r *result.Report) []result.Check {
	var out []result.Check
	for _, rule := range w.rules {
		if at < rule.Delay || at < 0 {
			continue
		}
		for _, c := range rule.Check(r) {
			if c.Value != nil && !c.Passed {
				out = append(out, c)
			}
		}
	}
	return out
}
