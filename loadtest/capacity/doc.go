// Package capacity finds the largest population that keeps a scenario's
// thresholds. One run answers yes or no, not always the same, and sometimes
// nothing at all, when the generator was the bottleneck. So [Find] grows the
// population, bisects, repeats what it saw, and says what it knows: a capacity
// with an interval, or "at least N, the generator ran out at M", or that even
// the smallest population is too much. A run in which the generator was the
// bottleneck is never counted against the system.
//
// The capacity is the largest tried population that held in more of its
// conclusive runs than not, with none smaller that did not. Its interval is of
// the point where the share of passed runs crosses one half: that share may
// only fall as the population grows (isotonic regression by pool adjacent
// violators, Barlow et al. 1972), and the fit is repeated over draws from what
// each level's passes and failures allow (uniform prior), with a seed, so that
// the same trials give the same answer. The interval holds for the system as it
// was during the search: a system that behaves otherwise after an overload, or
// in another hour, is not covered by any arithmetic.
package capacity
