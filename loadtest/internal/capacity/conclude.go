package capacity

import (
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// result returns what the trials show.
func (s *search) result() Result {
	r := Result{
		Unit: s.cfg.Unit, Confidence: s.cfg.Confidence, Runs: len(s.trials), Took: time.Since(s.begun), Trials: s.trials,
		Levels: s.sorted(),
	}
	var judged []Level // those with conclusive runs
	var y, w []float64
	for i := range r.Levels {
		l := &r.Levels[i]
		l.Low, l.High = wilson(l.Passed, l.conclusive(), s.cfg.Confidence)
		if n := l.conclusive(); n > 0 {
			judged, y, w = append(judged, *l), append(y, float64(l.Passed)/float64(n)), append(w, float64(n))
		}
	}
	fit := isotonic(y, w)
	for i := range r.Levels {
		if l := &r.Levels[i]; l.conclusive() > 0 {
			l.Fit, fit = &fit[0], fit[1:]
		}
	}
	low, high, _ := s.bounds()
	r.Capacity = low
	for _, l := range r.Levels {
		if l.N > low && s.failed(l) {
			r.Fails = l.N
			break
		}
	}
	s.verdict(&r, high)
	if len(judged) > 0 {
		r.Low, r.High, r.LowOpen, r.HighOpen = interval(judged, s.cfg.Confidence, s.cfg.Seed)
		if r.Capacity > 0 {
			// The capacity is the lower side of a step; the interval is of a
			// point within the step.
			r.Low, r.High = min(r.Low, float64(r.Capacity)), max(r.High, float64(r.Capacity))
		}
	} else {
		r.LowOpen, r.HighOpen = true, true
	}
	return r
}

// failed reports whether a population was too large for the system under test.
func (s *search) failed(l Level) bool {
	return l.Failed > 0 && (s.judge(l.N, 1) == fails || s.exhausted() && !l.holds())
}

// verdict sets what ended the search: high is the smallest population that did
// not hold, 0 if there is none.
func (s *search) verdict(r *Result, high int) {
	gap := max(1, int(s.cfg.Resolution*float64(r.Capacity)))
	top := s.levels[high]
	switch {
	case r.Capacity == 0 && high != 0 && r.Fails == high:
		r.Verdict = None
	case r.Capacity == 0:
		r.Verdict = Unknown
	case high != 0 && r.Fails == high:
		r.Verdict = Found
	default:
		r.Verdict = AtLeast
	}
	if r.Capacity > 0 && r.Capacity < s.cfg.Max && (high == 0 || high-r.Capacity > gap) {
		r.Exhausted = true // or ctx is done
	}
	if r.Verdict == Found || r.Verdict == None {
		return
	}
	switch {
	case r.Capacity == s.cfg.Max:
		r.Limit, r.LimitAt = LimitMax, s.cfg.Max
	case top != nil && top.Inconclusive > 0 && top.Inconclusive >= top.Broken:
		r.Limit, r.LimitAt = LimitGenerator, high
	case top != nil && top.Broken > 0:
		r.Limit, r.LimitAt = LimitBroken, high
	case s.stopped:
		r.Limit, r.LimitAt = LimitStopped, max(high, r.Capacity)
	default:
		r.Limit, r.LimitAt = LimitRuns, max(high, r.Capacity)
	}
}

// ExitCode maps the search to a report's verdict, for exit codes: a population
// that holds is a pass, none is a fail, and a search that could not judge is
// inconclusive.
func (r Result) ExitCode() int {
	switch r.Verdict {
	case Found, AtLeast:
		return result.Verdict{Result: result.Pass}.ExitCode()
	case None:
		return result.Verdict{Result: result.Fail}.ExitCode()
	}
	return result.Verdict{Result: result.Inconclusive}.ExitCode()
}
