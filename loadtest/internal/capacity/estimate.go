package capacity

import (
	"math"
	"math/rand/v2"
	"slices"
)

// wilson bounds the probability of a pass, given that passed of n runs passed,
// with the confidence (Wilson 1927, without continuity correction).
func wilson(passed, n int, confidence float64) (low, high float64) {
	if n == 0 {
		return 0, 1
	}
	z := math.Sqrt2 * math.Erfinv(confidence)
	p, m := float64(passed)/float64(n), float64(n)
	mid := (p + z*z/(2*m)) / (1 + z*z/m)
	half := z / (1 + z*z/m) * math.Sqrt(p*(1-p)/m+z*z/(4*m*m))
	return max(mid-half, 0), min(mid+half, 1)
}

// isotonic returns the weighted least-squares fit to y that never rises, by pool
// adjacent violators.
func isotonic(y, w []float64) []float64 {
	type pool struct {
		sum, weight float64
		n           int
	}
	var pools []pool
	for i := range y {
		pools = append(pools, pool{y[i] * w[i], w[i], 1})
		for k := len(pools) - 1; k > 0 && pools[k-1].sum*pools[k].weight < pools[k].sum*pools[k-1].weight; k-- {
			pools[k-1].sum += pools[k].sum
			pools[k-1].weight += pools[k].weight
			pools[k-1].n += pools[k].n
			pools = pools[:k]
		}
	}
	out := make([]float64, 0, len(y))
	for _, p := range pools {
		for range p.n {
			out = append(out, p.sum/p.weight)
		}
	}
	return out
}

// draws is the number of repetitions of the fit.
const draws = 4000

// interval bounds where the share of passed runs crosses one half; levels are
// those with conclusive runs, ascending, at least one.
func interval(levels []Level, confidence float64, seed uint64) (low, high float64, lowOpen, highOpen bool) {
	rng := rand.New(rand.NewPCG(seed, uint64(len(levels))))
	at := make([]float64, draws)
	y, w := make([]float64, len(levels)), make([]float64, len(levels))
	for d := range at {
		for i, l := range levels {
			y[i], w[i] = beta(rng, l.Passed, l.Failed), float64(l.conclusive()+1)
		}
		at[d] = crossing(levels, isotonic(y, w))
	}
	slices.Sort(at)
	tail := (1 - confidence) / 2
	low, high = at[int(tail*draws)], at[draws-1-int(tail*draws)]
	lowOpen, highOpen = math.IsInf(low, -1), math.IsInf(high, 1)
	if lowOpen {
		low = 0
	}
	if top := float64(levels[len(levels)-1].N); highOpen {
		high = top
	}
	// Either end may be beyond the populations that were tried.
	if math.IsInf(high, -1) {
		high = float64(levels[0].N)
	}
	if math.IsInf(low, 1) {
		low = float64(levels[len(levels)-1].N)
	}
	return low, high, lowOpen, highOpen
}

// crossing returns where a falling share crosses one half, linearly between
// levels; it is infinite if that is below or above all levels.
func crossing(levels []Level, share []float64) float64 {
	for i, p := range share {
		if p > 0.5 {
			continue
		}
		if i == 0 {
			return math.Inf(-1)
		}
		a, b := float64(levels[i-1].N), float64(levels[i].N)
		return a + (share[i-1]-0.5)/(share[i-1]-p)*(b-a)
	}
	return math.Inf(1)
}

// beta draws from the distribution of a probability of which a successes and b
// failures are known, with a uniform prior, Beta(a+1, b+1): the (a+1)th smallest
// of a+b+1 uniform draws has that distribution.
func beta(rng *rand.Rand, a, b int) float64 {
	u := make([]float64, a+b+1)
	for i := range u {
		u[i] = rng.Float64()
	}
	slices.Sort(u)
	return u[a]
}
