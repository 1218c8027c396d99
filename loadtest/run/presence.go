package run

import (
	"math"
	"time"

	"github.com/openova-io/bp-relay/loadtest/scenario"
)

// places are how many of a population are on each path.
func (c *crowd) places(population float64) map[*lane]int {
	n := map[*lane]int{}
	for i := range int(math.Round(population)) {
		n[c.r.seat(i).path]++
	}
	return n
}

// count notes who of those that are wanted is not there, when the measured part
// has ended at a time since it began. Joins that were under way then count as
// there when they have come in, or when the run was cut.
func (c *crowd) count(at time.Duration, cut bool) {
	if c.load.Mode == scenario.Open {
		return
	}
	_, pending := c.size()
	peak, wanted := c.places(c.load.PeakUntil(at, c.total)), c.places(c.load.Target(at, c.total))
	for _, l := range c.r.lanes {
		l.mu.Lock()
		l.planned = peak[l]
		there := l.present
		if clock := c.r.seconds; clock != nil && clock.stopped {
			there = clock.present[l.name] + l.seated - clock.seated[l.name]
		}
		l.missing = max(0, wanted[l]-there)
		if cut {
			took := min(l.missing, pending)
			l.missing, pending = l.missing-took, pending-took
		}
		l.mu.Unlock()
	}
}

// barred says whether there is a path on which nobody has come in, and some were
// refused: the rest of the run would only show that for longer.
func (r *runner) barred() bool {
	const least, enough = 2, 3
	for _, l := range r.lanes {
		l.mu.Lock()
		j, planned := l.joins, l.planned
		l.mu.Unlock()
		if planned == 0 { // an open load
			planned = enough
		}
		// Where few are refused, the others are still on their way.
		if j.Succeeded == 0 && 2*j.Failed >= j.Attempted && j.Failed >= min(max(planned, least), enough) {
			return true
		}
	}
	return false
}
