package measure

import (
	"math"
	"slices"
)

// Sample holds one value per round of one subject.
type Sample []float64

// Median returns the median; NaN if the sample is empty.
func (s Sample) Median() float64 { return s.Quantile(0.5) }

// Quantile returns the value below which the share q (0 to 1) of the sample
// lies, interpolated between neighbours; NaN if the sample is empty.
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

// Spread returns the distance between the quartiles, relative to the median:
// 0.1 means that the middle half of the rounds lies within 10 %.
func (s Sample) Spread() float64 {
	m := s.Median()
	if m == 0 || math.IsNaN(m) {
		return 0
	}
	return math.Abs((s.Quantile(0.75) - s.Quantile(0.25)) / m)
}

// Ratios divides round by round, because a disturbance affects both sides of a
// round. Rounds that one side lacks are left out.
func Ratios(ours, baseline Sample) Sample {
	n := min(len(ours), len(baseline))
	out := make(Sample, 0, n)
	for i := range n {
		out = append(out, ours[i]/baseline[i])
	}
	return out
}
