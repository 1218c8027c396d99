package run

import (
	"time"

	"github.com/openova-io/bp-relay/loadtest/scenario"
)

// seat is a place in the scenario that a subscriber takes: a room and a path.
type seat struct {
	index  int
	room   int
	inRoom int // the number among the room's subscribers, of all workers
	path   *lane
}

// retryAfter is when a seat is taken again whose join failed: an installation
// that refuses everybody is not to be hammered.
const retryAfter = time.Second

// rest is a seat that waits.
type rest struct {
	seat seat
	at   time.Time
}

// seat is the i-th place: rooms in turn, and within a room the paths in turn.
func (r *runner) seat(i int) seat {
	rooms := len(r.rooms)
	inRoom := r.part().Subscriber + i/rooms
	return seat{index: i, room: i % rooms, inRoom: inRoom, path: r.lanes[inRoom%len(r.s.Paths)]}
}

// rested gives back the seats that waited long enough.
func (c *crowd) rested(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.resting) > 0 && now.After(c.resting[0].at) {
		c.seats = append(c.seats, c.resting[0].seat)
		c.resting = c.resting[1:]
	}
}

// seat takes a free one.
func (c *crowd) seat() (s seat, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.seats)
	if n == 0 {
		return s, false
	}
	s, c.seats = c.seats[n-1], c.seats[:n-1]
	return s, true
}

// back gives a seat back; the caller holds mu. In open mode there are none.
func (c *crowd) back(s seat) {
	if c.load.Mode != scenario.Open {
		c.seats = append(c.seats, s)
	}
}
