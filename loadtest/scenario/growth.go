package scenario

import "time"

// MostSubscribers is how many a room may have in a scenario.
const MostSubscribers = 100_000

// Length is how long the measured part takes: the hold, or all stages. The
// warm-up comes before it.
func (l Load) Length() time.Duration {
	if len(l.Stages) == 0 {
		return l.Hold
	}
	var sum time.Duration
	for _, s := range l.Stages {
		sum += s.Duration
	}
	return sum
}

// Target is the population (closed) or the arrivals per second (open) that is
// wanted at a time since the measured part began; a time below 0 is in the
// warm-up. Without stages it is the total, all the time. Stages begin at 0 and
// go evenly from one target to the next; a stage that takes no time is a step,
// and one at the begin says where the load starts: the warm-up fills up to it.
// After the last stage its target stays.
func (l Load) Target(at time.Duration, total int) float64 {
	if len(l.Stages) == 0 {
		return float64(total)
	}
	from := 0.0
	for _, s := range l.Stages {
		if s.Duration > 0 {
			if at < s.Duration {
				return from + (s.Target-from)*float64(max(at, 0))/float64(s.Duration)
			}
			at -= s.Duration
		}
		from = s.Target
	}
	return from
}

// PeakUntil is the highest target until a time since the measured part began.
func (l Load) PeakUntil(at time.Duration, total int) float64 {
	peak, end := max(l.Target(0, total), l.Target(at, total)), time.Duration(0)
	for _, s := range l.Stages {
		if end += s.Duration; end > at {
			break
		}
		peak = max(peak, s.Target)
	}
	return peak
}

// Peak is the highest target, see Target.
func (l Load) Peak(total int) float64 {
	if len(l.Stages) == 0 {
		return float64(total)
	}
	peak := 0.0
	for _, s := range l.Stages {
		peak = max(peak, s.Target)
	}
	return peak
}

// Participants are how many publishers and subscribers all rooms have at most,
// together; in open mode subscribers come and go, and only publishers are known.
func (s *Scenario) Participants() (publishers, subscribers int) {
	publishers = s.Rooms.Count * s.Rooms.Publishers
	if s.Load.Mode == Open {
		return publishers, 0
	}
	return publishers, s.Rooms.Count * s.Rooms.Subscribers
}
