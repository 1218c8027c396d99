package run

import (
	"fmt"
	"time"
)

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

// attend watches a guest until it ends. Who fell out makes room for another.
func (c *crowd) attend(g *guest) {
	<-g.sub.Done()
	now := time.Now()
	c.mu.Lock()
	_, still := c.in[g]
	delete(c.in, g)
	c.mu.Unlock()
	if !still {
		return // dismissed
	}
	c.fellOut(g, now)
	_ = g.sub.Close() // it has failed already
}

// inFlight is how long packets may have been on their way, and in our socket,
// when a participant fell out.
const inFlight = gather + 60*time.Millisecond

// fellOut notes that a guest ended by itself. When the media is over, that is
// no matter any more.
func (c *crowd) fellOut(g *guest, now time.Time) {
	lane := g.seat.path
	over := c.r.over.Load()
	how := leaving{end: now.UnixNano(), sent: c.r.cast.numbers(g.seat.room)}
	if over != 0 {
		how.end = min(how.end, over)
	}
	g.l.heardOut(c.r.cast.lastMessages())
	select {
	case <-time.After(inFlight):
	case <-c.r.ctx.Done():
	}
	_, _, streams := g.l.leave(how)
	c.mu.Lock()
	if _, again := c.away[g.seat.index]; !again && streams > 0 && over == 0 {
		c.away[g.seat.index] = outage{path: lane, since: now, until: g.until, streams: streams}
	}
	c.back(g.seat)
	c.mu.Unlock()
	lane.mu.Lock()
	defer lane.mu.Unlock()
	lane.present--
	if over == 0 {
		lane.joins.Reconnects++
		c.r.fault(fmt.Errorf("fell out on %s: %w", lane.name, g.sub.Err()))
	}
}
