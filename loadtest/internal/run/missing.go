package run

import (
	"math"
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
)

// byPopulation distributes a number of subscribers over the paths.
func (e *executor) byPopulation(size float64) map[*population]int {
	n := map[*population]int{}
	for i := range int(math.Round(size)) {
		n[e.r.vu(i).pop]++
	}
	return n
}

// countMissing counts the wanted subscribers that have not joined when the
// measured part ended, at that time into it. Joins then under way count as
// joined if they have succeeded since, or if the run was interrupted.
func (e *executor) countMissing(at time.Duration, cut bool) {
	if e.load.Mode == scenario.Open {
		return
	}
	_, pending := e.size()
	peak, wanted := e.byPopulation(e.load.PeakUntil(at, e.total)), e.byPopulation(e.load.Target(at, e.total))
	for _, pop := range e.r.populations {
		pop.mu.Lock()
		pop.planned = peak[pop]
		current := pop.current
		if tl := e.r.timeline; tl != nil && tl.stopped {
			current = tl.present[pop.name] + pop.joined - tl.joined[pop.name]
		}
		pop.missing = max(0, wanted[pop]-current)
		if cut {
			took := min(pop.missing, pending)
			pop.missing, pending = pop.missing-took, pending-took
		}
		pop.mu.Unlock()
	}
}

// refused reports whether no join has succeeded on some path and enough of them
// have failed: the rest of the run would show nothing new.
func (r *runner) refused() bool {
	const least, enough = 2, 3
	for _, pop := range r.populations {
		pop.mu.Lock()
		j, planned := pop.joins, pop.planned
		pop.mu.Unlock()
		if planned == 0 { // an open load
			planned = enough
		}
		// If few have failed, the others are still under way.
		if j.Succeeded == 0 && 2*j.Failed >= j.Attempted && j.Failed >= min(max(planned, least), enough) {
			return true
		}
	}
	return false
}
