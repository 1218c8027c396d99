package capacity_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/loadtest/internal/capacity"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// system maps a population to one of the report's verdicts.
type system func(n int) string

// run makes a system a Config.Run.
func (s system) run(_ context.Context, n int) (*result.Report, error) {
	return &result.Report{Verdict: result.Verdict{Result: s(n)}, Thresholds: []result.Check{{Expr: "loss < 0.1%", Passed: s == nil}}}, nil
}

// sharp holds up to n, always.
func sharp(at int) system {
	return func(n int) string {
		if n <= at {
			return result.Pass
		}
		return result.Fail
	}
}

// noisy passes half of its runs at the capacity; the share falls over a width
// around it (logistic).
func noisy(rng *rand.Rand, at, width float64) system {
	return func(n int) string {
		if rng.Float64() < 1/(1+math.Exp((float64(n)-at)/(width*at))) {
			return result.Pass
		}
		return result.Fail
	}
}

// weak has a generator that cannot judge populations above n.
func (s system) weak(above int) system {
	return func(n int) string {
		if n > above {
			return result.Inconclusive
		}
		return s(n)
	}
}

func find(t *testing.T, s system, change ...func(*capacity.Config)) capacity.Result {
	t.Helper()
	cfg := capacity.Config{Min: 10, Max: 10_000, Run: s.run}
	for _, f := range change {
		f(&cfg)
	}
	r, err := capacity.Find(t.Context(), cfg)
	require.NoError(t, err)
	check(t, r)
	return r
}

// check asserts the invariants of every result.
func check(t *testing.T, r capacity.Result) {
	t.Helper()
	require.Len(t, r.Trials, r.Runs)
	seen := map[int]capacity.Level{}
	fit := 1.0
	for _, l := range r.Levels {
		seen[l.N] = l
		require.LessOrEqual(t, 0.0, l.Low)
		require.LessOrEqual(t, l.Low, l.High)
		require.LessOrEqual(t, l.High, 1.0)
		if l.Fit != nil {
			require.LessOrEqual(t, *l.Fit, fit+1e-9, "the fit never rises")
			fit = *l.Fit
		}
	}
	total := 0
	for _, l := range seen {
		total += l.Passed + l.Failed + l.Inconclusive + l.Broken
	}
	require.Equal(t, r.Runs, total)
	switch r.Verdict {
	case capacity.Found, capacity.AtLeast:
		require.Greater(t, seen[r.Capacity].Passed, seen[r.Capacity].Failed, "a capacity held more often than not")
		require.LessOrEqual(t, r.Low, float64(r.Capacity))
		require.GreaterOrEqual(t, r.High, float64(r.Capacity))
	default:
		require.Zero(t, r.Capacity)
	}
	if r.Fails > 0 {
		require.Positive(t, seen[r.Fails].Failed, "only failures of the system count as such")
		require.Greater(t, r.Fails, r.Capacity)
	}
	_, err := json.Marshal(r)
	require.NoError(t, err)
	var b strings.Builder
	require.NoError(t, r.WriteText(&b))
	require.Contains(t, b.String(), r.Sentence())
}

func TestFindSharp(t *testing.T) {
	for _, at := range []int{10, 11, 37, 100, 640, 641, 5000, 9999} {
		r := find(t, sharp(at))
		require.Equal(t, capacity.Found, r.Verdict, at)
		require.LessOrEqual(t, r.Capacity, at)
		require.Greater(t, r.Fails, at)
		require.LessOrEqual(t, r.Fails-r.Capacity, max(1, r.Capacity/20), "to the resolution")
		require.False(t, r.Exhausted)
		require.LessOrEqual(t, r.Low, float64(at))
		require.GreaterOrEqual(t, r.High, float64(at))
		require.Zero(t, r.ExitCode())
	}
}

func TestFindEnds(t *testing.T) {
	r := find(t, sharp(20_000))
	require.Equal(t, capacity.AtLeast, r.Verdict)
	require.Equal(t, 10_000, r.Capacity)
	require.Equal(t, capacity.LimitMax, r.Limit)
	require.True(t, r.HighOpen)

	r = find(t, sharp(9))
	require.Equal(t, capacity.None, r.Verdict)
	require.Equal(t, 10, r.Fails)
	require.True(t, r.LowOpen)
	require.Equal(t, 99, r.ExitCode())

	r = find(t, sharp(500), func(c *capacity.Config) { c.Min, c.Max = 500, 500 })
	require.Equal(t, 500, r.Capacity)
	require.Equal(t, 3, r.Runs)
}

// TestFindGenerator: a run that the generator cannot judge is not a failure.
func TestFindGenerator(t *testing.T) {
	r := find(t, sharp(1000).weak(300))
	require.Equal(t, capacity.AtLeast, r.Verdict)
	require.Equal(t, capacity.LimitGenerator, r.Limit)
	require.InDelta(t, 300, r.Capacity, 15)
	require.Greater(t, r.LimitAt, 300)
	require.Zero(t, r.Fails)
	require.True(t, r.HighOpen)
	require.Contains(t, r.Sentence(), "were inconclusive: ")

	r = find(t, sharp(300).weak(1000))
	require.Equal(t, capacity.Found, r.Verdict)
	require.InDelta(t, 300, r.Capacity, 15)

	r = find(t, sharp(1000).weak(5))
	require.Equal(t, capacity.Unknown, r.Verdict)
	require.Equal(t, 3, r.ExitCode())

	// Populations that cannot be judged lie below one that fails: the result
	// reports both.
	r = find(t, func(n int) string {
		switch {
		case n <= 200:
			return result.Pass
		case n < 300:
			return result.Inconclusive
		}
		return result.Fail
	})
	require.Equal(t, capacity.AtLeast, r.Verdict)
	require.InDelta(t, 200, r.Capacity, 10)
	require.Equal(t, capacity.LimitGenerator, r.Limit)
	require.GreaterOrEqual(t, r.Fails, 300)

	// An occasional inconclusive run changes only the number of runs.
	rng := rand.New(rand.NewPCG(1, 1))
	r = find(t, func(n int) string {
		if rng.IntN(4) == 0 {
			return result.Inconclusive
		}
		return sharp(300)(n)
	})
	require.InDelta(t, 300, r.Capacity, 15)
}

// TestFindBroken: runs that fail by themselves are reported, not counted.
func TestFindBroken(t *testing.T) {
	r, err := capacity.Find(t.Context(), capacity.Config{Min: 10, Max: 1000, Run: func(_ context.Context, n int) (*result.Report, error) {
		if n > 100 {
			return nil, errors.New("no rooms left")
		}
		return sharp(1000).run(t.Context(), n)
	}})
	require.NoError(t, err)
	check(t, r)
	require.Equal(t, capacity.AtLeast, r.Verdict)
	require.Equal(t, capacity.LimitBroken, r.Limit)
	require.InDelta(t, 100, r.Capacity, 5)
	require.Equal(t, []string{"no rooms left"}, r.Trials[len(r.Trials)-1].Reasons)

	r, err = capacity.Find(t.Context(), capacity.Config{Min: 1, Max: 2, Run: func(context.Context, int) (*result.Report, error) { return nil, nil }})
	require.NoError(t, err)
	require.Equal(t, capacity.Unknown, r.Verdict)
}

// TestFindNoisy: over many searches of systems with a known capacity, the
// interval contains it as often as its confidence promises.
func TestFindNoisy(t *testing.T) {
	for _, width := range []float64{0.01, 0.05, 0.15} {
		const searches = 200
		covered, off := 0, 0.0
		for i := range searches {
			rng := rand.New(rand.NewPCG(uint64(i), 7))
			at := 50 * math.Exp(rng.Float64()*math.Log(60)) // 50 to 3000
			r := find(t, noisy(rng, at, width), func(c *capacity.Config) { c.Seed = uint64(i) })
			if r.Verdict != capacity.Found {
				continue
			}
			if (r.LowOpen || r.Low <= at) && (r.HighOpen || at <= r.High) {
				covered++
			}
			off += math.Abs(float64(r.Capacity)/at-1) / searches
		}
		t.Logf("width %v: %d of %d intervals hold the capacity, which is %.1f %% off on average", width, covered, searches, 100*off)
		require.GreaterOrEqual(t, covered, searches*80/100, "width %v", width)
		require.Less(t, off, 0.05+2*width)
	}
}

// TestFindHysteresis: an overload degrades the system for a while.
func TestFindHysteresis(t *testing.T) {
	ill := 0
	r := find(t, func(n int) string {
		if ill > 0 {
			ill--
			return result.Fail
		}
		if n > 300 {
			ill = 1
			return result.Fail
		}
		return result.Pass
	})
	require.LessOrEqual(t, r.Capacity, 300)
	require.GreaterOrEqual(t, r.Capacity, 100)
}

// TestFindAnything: whatever a system answers, the search ends within its runs,
// with a result that its trials support.
func TestFindAnything(t *testing.T) {
	answers := []string{result.Pass, result.Fail, result.Inconclusive, result.Broken, "?"}
	for i := range 3000 {
		rng := rand.New(rand.NewPCG(uint64(i), 3))
		weights := rng.Perm(len(answers))
		calls, lowest, highest := 0, 1+rng.IntN(50), 0
		highest = lowest + rng.IntN(2000)
		cfg := capacity.Config{
			Min: lowest, Max: highest, Trials: 1 + rng.IntN(6), Resolution: 0.01 + rng.Float64()/2, Seed: uint64(i),
			Run: system(func(n int) string {
				calls++
				require.LessOrEqual(t, lowest, n)
				require.LessOrEqual(t, n, highest)
				return answers[weights[min(rng.IntN(len(answers)), rng.IntN(len(answers)))]]
			}).run,
		}
		cfg.MaxRuns = cfg.Trials + rng.IntN(60)
		r, err := capacity.Find(t.Context(), cfg)
		require.NoError(t, err)
		check(t, r)
		require.Equal(t, calls, r.Runs)
		require.LessOrEqual(t, calls, cfg.MaxRuns)
	}
}

func TestFindRunsOut(t *testing.T) {
	r := find(t, sharp(5000), func(c *capacity.Config) { c.MaxRuns = 5 })
	require.Equal(t, capacity.AtLeast, r.Verdict)
	require.True(t, r.Exhausted)
	require.Equal(t, capacity.LimitRuns, r.Limit)
	require.Equal(t, 160, r.Capacity)

	r = find(t, sharp(5000), func(c *capacity.Config) { c.MaxRuns = 14 })
	require.Equal(t, capacity.Found, r.Verdict)
	require.True(t, r.Exhausted)
}

func TestFindCancelled(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("enough")
	runs := 0
	r, err := capacity.Find(ctx, capacity.Config{Min: 10, Max: 10_000, Run: func(ctx context.Context, n int) (*result.Report, error) {
		if runs++; runs == 4 {
			cancel(stop)
			return nil, context.Cause(ctx)
		}
		return sharp(5000).run(ctx, n)
	}})
	require.ErrorIs(t, err, stop)
	check(t, r)
	require.Equal(t, 3, r.Runs, "the run that was cut short does not count")
	require.Equal(t, 40, r.Capacity)
	require.Equal(t, 4, runs)
}

func TestFindRepeatable(t *testing.T) {
	result := func(seed uint64) capacity.Result {
		r := find(t, noisy(rand.New(rand.NewPCG(1, 2)), 400, 0.1), func(c *capacity.Config) { c.Seed = seed })
		return capacity.Result{Capacity: r.Capacity, Low: r.Low, High: r.High}
	}
	require.Equal(t, result(1), result(1))
	require.NotEqual(t, result(1), result(2))
}

func TestFindProgress(t *testing.T) {
	var events []capacity.Event
	r := find(t, sharp(300), func(c *capacity.Config) {
		c.Progress = func(e capacity.Event) { events = append(events, e) }
	})
	require.Len(t, events, 2*r.Runs)
	for i, e := range events {
		require.Equal(t, i/2+1, e.Runs)
		require.Equal(t, i%2 == 1, e.Trial.Result != "")
	}
	last := events[len(events)-1]
	require.Equal(t, r.Capacity, last.Holds)
	require.Equal(t, r.Fails, last.Fails)
	require.Len(t, r.Trials[len(r.Trials)-1].Broke, 1)
}

func TestFindRefuses(t *testing.T) {
	run := sharp(1).run
	for _, c := range []capacity.Config{
		{Min: 1, Max: 2},
		{Run: run},
		{Run: run, Min: 2, Max: 1},
		{Run: run, Min: 1, Max: 2, Resolution: 2},
		{Run: run, Min: 1, Max: 2, Trials: -1},
		{Run: run, Min: 1, Max: 2, MaxRuns: 2},
		{Run: run, Min: 1, Max: 2, Confidence: 1},
	} {
		_, err := capacity.Find(t.Context(), c)
		require.ErrorIs(t, err, capacity.ErrConfig)
	}
}
