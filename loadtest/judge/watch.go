package judge

import (
	"time"

	"github.com/openova-io/bp-relay/loadtest/report"
)

// Watch ends a run early, as k6's abortOnFail does, by the thresholds that say
// abort. It keeps nothing of what it saw, so it may be asked from anywhere.
type Watch struct{ rules []Rule }

// NewWatch takes the thresholds of a scenario; those without abort are left to
// the end. It returns the first one's error that cannot be read.
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

// Empty says whether no threshold can end the run: then no snapshots need to be
// made for it.
func (w *Watch) Empty() bool { return len(w.rules) == 0 }

// Broken are the checks that end the run now: at is the time since the measured
// part began, r what was measured so far. What was not measured ends nothing.
// The run's verdict is still [Judge]'s: it may be inconclusive.
func (w *Watch) Broken(at time.Duration, r *report.Report) []report.Check {
	var out []report.Check
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
