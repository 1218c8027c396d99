package measure

import (
	"math"
	"slices"
)

// Sample is one value per round of one subject.
type Sample []float64

// Median is the middle value, NaN of none.
func (s Sample) Median() float64 { return s.Quantile(0.5) }

// Quantile is the value below which the part q (0 to 1) of the sample lies,
// interpolated between neighbours; NaN of an empty sample.
func (s Sample) Quantile(q float64) float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s))
	at := q * float64(len(sorted)-1)
	low := int(at)
	if low+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[low] + (at-float64(low))*(sorted[low+1]-sorted[low])
}

// Spread is the distance between the quartiles as a part of the median: 0.1
// says that the middle half of the rounds lies within 10 %.
func (s Sample) Spread() float64 {
	m := s.Median()
	if m == 0 || math.IsNaN(m) {
		return 0
	}
	return math.Abs((s.Quantile(0.75) - s.Quantile(0.25)) / m)
}

// Ratios divides round by round: what disturbs a round disturbs both its
// sides. Rounds that one side lacks are left out.
func Ratios(ours, baseline Sample) Sample {
	n := min(len(ours), len(baseline))
	out := make(Sample, 0, n)
	for i := range n {
		out = append(out, ours[i]/baseline[i])
	}
	return out
}
