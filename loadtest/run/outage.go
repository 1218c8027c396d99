package run

import "time"

// outage is a seat without media since its guest fell out: for who sits there,
// the picture stands still.
type outage struct {
	path    *lane
	since   time.Time
	until   time.Time // when it would have left; zero: not before the end
	streams int
}

// unwanted ends the outages of seats that a population of so many does not take.
func (c *crowd) unwanted(now time.Time, population int) {
	c.mu.Lock()
	var over []int
	for seat := range c.away {
		if seat >= population {
			over = append(over, seat)
		}
	}
	c.mu.Unlock()
	for _, seat := range over {
		c.returned(seat, now)
	}
}

// returned ends a seat's outage, if there is one.
func (c *crowd) returned(seat int, at time.Time) {
	c.mu.Lock()
	o, ok := c.away[seat]
	delete(c.away, seat)
	c.mu.Unlock()
	if !ok {
		return
	}
	if !o.until.IsZero() && o.until.Before(at) {
		at = o.until
	}
	long := max(0, at.Sub(o.since).Seconds()) * float64(o.streams)
	s := o.path.shards[0]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone.FreezeSeconds += long
	s.gone.StreamSeconds += long
}
