// Package capacity finds the largest population that keeps a scenario's
// thresholds. One run answers yes or no, not always the same, or nothing at all
// if the generator was the bottleneck. So [Find] grows the population, bisects,
// and repeats runs, and then reports a capacity with an interval, or "at least N,
// the generator ran out at M", or that even the smallest population is too large.
// A run in which the generator was the bottleneck never counts against the system
// under test.
//
// The capacity is the largest tried population of which most conclusive runs
// passed, with no smaller one that did not hold. Its interval is of the point
// where the share of passed runs crosses one half: that share may only fall as
// the population grows (isotonic regression by pool adjacent violators, Barlow et
// al. 1972). The fit is repeated over draws from the distribution that each
// level's passes and failures allow (uniform prior), with a seed, so that the
// same trials give the same answer. The interval holds for the system as it was
// during the search; no arithmetic covers a system that behaves differently after
// an overload, or an hour later.
package capacity
