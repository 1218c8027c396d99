package capacity

import (
	"context"
	"slices"
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// Find searches the capacity. If ctx is done, it returns the result so far and
// the reason. It returns ErrConfig for an invalid configuration. A run that fails
// by itself is not an error: Result.Limit reports it.
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
	// stopped is set if ctx was done before the search ended.
	stopped bool
}

// judgement is what is known about a population.
type judgement int

const (
	open     judgement = iota // too few runs
	holds                     // it passes more often than not
	fails                     // it passes at most as often as not
	unjudged                  // too many of its runs were not conclusive
)

// judge decides after want conclusive runs, or when the rest of Config.Trials
// cannot change the outcome.
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
		// As many runs again were not conclusive: those that were decide, if
		// there are any.
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

// test runs a population until want conclusive runs judge it, the runs are used
// up or ctx is done.
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

// trial does one run. Its only error is the cause of ctx; a run that ctx cut
// short does not count.
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
		t.Result, t.Reasons = result.Broken, []string{err.Error()}
	case rep == nil:
		t.Result, t.Reasons = result.Broken, []string{"the run left no report"}
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
	case result.Pass:
		l.Passed++
	case result.Fail:
		l.Failed++
	case result.Inconclusive:
		l.Inconclusive++
	default:
		t.Result = result.Broken
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

// sorted returns the levels, ascending.
func (s *search) sorted() []Level {
	out := make([]Level, 0, len(s.levels))
	for _, l := range s.levels {
		out = append(out, *l)
	}
	slices.SortFunc(out, func(a, b Level) int { return a.N - b.N })
	return out
}

// bounds returns the largest population that holds below the smallest that does
// not, and the latter; 0 if there is none. full reports whether all trials judged
// the first.
func (s *search) bounds() (low, high int, full bool) {
	for _, l := range s.sorted() {
		if s.judge(l.N, 1) != holds {
			return low, l.N, full
		}
		low, full = l.N, s.judge(l.N, s.cfg.Trials) == holds
	}
	return low, 0, full
}

// run grows, bisects and confirms until the bounds are close and all trials have
// judged both.
func (s *search) run(ctx context.Context) error {
	for n := s.cfg.Min; ; {
		// While growing, one pass is enough to go on; the bounds are confirmed
		// later.
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
