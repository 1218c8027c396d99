package capacity

import (
	"context"
	"slices"
	"time"

	"github.com/openova-io/bp-relay/loadtest/report"
)

// Find searches the capacity. When ctx ends it returns what is known so far
// with the reason; a configuration that makes no sense is ErrConfig. Runs that
// fail by themselves are no error: Result.Limit tells of them.
func Find(ctx context.Context, cfg Config) (Result, error) {
	cfg, err := cfg.filled()
	if err != nil {
		return Result{}, err
	}
	s := &search{cfg: cfg, levels: map[int]*Level{}, begun: time.Now()}
	err = s.run(ctx)
	s.stopped = ctx.Err() != nil
	return s.result(), err
}

// search is a search under way.
type search struct {
	cfg    Config
	levels map[int]*Level
	trials []Trial
	begun  time.Time
	// stopped: ctx ended before the search did
	stopped bool
}

// judgement is what is known of a population.
type judgement int

const (
	open     judgement = iota // not enough was seen
	holds                     // it passes more often than not
	fails                     // it does not
	unjudged                  // its runs said nothing, often enough to give up
)

// judge decides by what was seen, once want conclusive runs are there, or when
// the rest of Config.Trials cannot change it.
func (s *search) judge(n, want int) judgement {
	l := s.levels[n]
	if l == nil {
		return open
	}
	left := s.cfg.Trials - l.conclusive()
	switch {
	case l.conclusive() >= want && l.holds(), left <= 0 && l.holds():
		return holds
	case left <= 0, !l.holds() && l.Failed-l.Passed >= left && want < s.cfg.Trials:
		return fails
	case l.Inconclusive+l.Broken >= s.cfg.Trials:
		// As many runs again said nothing: what is there decides, if anything.
		if l.conclusive() == 0 || l.Passed == l.Failed {
			return unjudged
		}
		if l.holds() {
			return holds
		}
		return fails
	}
	return open
}

// test runs a population until it is judged by want conclusive runs, the runs
// are used up or ctx ends.
func (s *search) test(ctx context.Context, n, want int) (judgement, error) {
	for {
		if j := s.judge(n, want); j != open || s.exhausted() {
			return j, nil
		}
		if err := s.trial(ctx, n); err != nil {
			return open, err
		}
	}
}

func (s *search) exhausted() bool { return len(s.trials) >= s.cfg.MaxRuns }

// trial does one run. Its only error is the reason why ctx ended; the run that
// was cut short is not counted.
func (s *search) trial(ctx context.Context, n int) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	t := Trial{Run: len(s.trials) + 1, N: n, Started: time.Now()}
	s.tell(t)
	rep, err := s.cfg.Run(ctx, n)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	t.Seconds = time.Since(t.Started).Seconds()
	switch {
	case err != nil:
		t.Result, t.Reasons = report.Broken, []string{err.Error()}
	case rep == nil:
		t.Result, t.Reasons = report.Broken, []string{"the run left no report"}
	default:
		t.Result, t.Reasons = rep.Verdict.Result, rep.Verdict.Reasons
		for _, c := range rep.Thresholds {
			if !c.Passed {
				t.Broke = append(t.Broke, c)
			}
		}
	}
	l := s.levels[n]
	if l == nil {
		l = &Level{N: n}
		s.levels[n] = l
	}
	switch t.Result {
	case report.Pass:
		l.Passed++
	case report.Fail:
		l.Failed++
	case report.Inconclusive:
		l.Inconclusive++
	default:
		t.Result = report.Broken
		l.Broken++
	}
	s.trials = append(s.trials, t)
	s.tell(t)
	return nil
}

func (s *search) tell(t Trial) {
	low, high, _ := s.bounds()
	e := Event{Trial: t, Holds: low, Runs: t.Run}
	if l := s.levels[high]; l != nil && s.judge(high, s.cfg.Trials) == fails {
		e.Fails = high
	}
	s.cfg.Progress(e)
}

// sorted are the levels, ascending.
func (s *search) sorted() []Level {
	out := make([]Level, 0, len(s.levels))
	for _, l := range s.levels {
		out = append(out, *l)
	}
	slices.SortFunc(out, func(a, b Level) int { return a.N - b.N })
	return out
}

// bounds are the largest population that holds below the smallest that does
// not, and that one; 0 where there is none. Full says whether the first was
// judged by all trials.
func (s *search) bounds() (low, high int, full bool) {
	for _, l := range s.sorted() {
		if s.judge(l.N, 1) != holds {
			return low, l.N, full
		}
		low, full = l.N, s.judge(l.N, s.cfg.Trials) == holds
	}
	return low, 0, full
}

// run grows, bisects and confirms until the bounds are close and both are
// judged by all trials.
func (s *search) run(ctx context.Context) error {
	for n := s.cfg.Min; ; {
		// Growing, one pass is enough to go on; the bounds are confirmed later.
		j, err := s.test(ctx, n, 1)
		if err != nil || s.exhausted() {
			return err
		}
		if j != holds || n == s.cfg.Max {
			break
		}
		n += min(n, s.cfg.Max-n) // twice as many, at most Max, without overflow
	}
	for !s.exhausted() {
		low, high, full := s.bounds()
		next := 0
		gap := max(1, int(s.cfg.Resolution*float64(low)))
		switch {
		case low != 0 && high != 0 && high-low > gap:
			next = low + (high-low)/2
		case low != 0 && !full: // close enough: both sides are confirmed, the lower first
			next = low
		case high != 0 && s.judge(high, s.cfg.Trials) == open:
			next = high
		}
		if next == 0 {
			return nil
		}
		if _, err := s.test(ctx, next, s.cfg.Trials); err != nil {
			return err
		}
	}
	return nil
}
