package scenario

import "time"

// MostSubscribers is the highest number of subscribers of a room in a scenario.
const MostSubscribers = 100_000

// Length is the duration of the measured part: the hold, or all stages. The
// warm-up precedes it.
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

// Target is the wanted population (closed) or the arrivals per second (open) at a
// time since the measured part began; a negative time is in the warm-up. Without
// stages it is always the total. Stages start at 0 and change the target linearly
// to the next; a stage of no duration is a step, and one at the beginning sets the
// start, which the warm-up reaches. After the last stage its target stays.
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

// Participants returns the highest number of publishers and of subscribers in all
// rooms together; in open mode the number of subscribers is unknown, and 0.
func (s *Scenario) Participants() (publishers, subscribers int) {
	publishers = s.Rooms.Count * s.Rooms.Publishers
	if s.Load.Mode == Open {
		return publishers, 0
	}
	return publishers, s.Rooms.Count * s.Rooms.Subscribers
}
