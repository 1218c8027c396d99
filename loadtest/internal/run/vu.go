package run

import (
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
)

// vu is a virtual user in the role of a subscriber: an index in the scenario
// that fixes its room and path. In closed mode it is used again after its
// subscriber has left.
type vu struct {
	index  int
	room   int
	inRoom int // its number among the room's subscribers of all workers
	pop    *population
}

// retryAfter is the wait before a VU whose join failed tries again, so that a
// system that refuses all joins is not flooded with them.
const retryAfter = time.Second

// retry is a VU that may join again at a time.
type retry struct {
	vu vu
	at time.Time
}

// vu returns the i-th VU: rooms in turn, and within a room paths in turn.
func (r *runner) vu(i int) vu {
	rooms := len(r.rooms)
	inRoom := r.part().Subscriber + i/rooms
	return vu{index: i, room: i % rooms, inRoom: inRoom, pop: r.populations[inRoom%len(r.s.Paths)]}
}

// freeRetries frees the VUs that have waited retryAfter.
func (e *executor) freeRetries(now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(e.failed) > 0 && now.After(e.failed[0].at) {
		e.free = append(e.free, e.failed[0].vu)
		e.failed = e.failed[1:]
	}
}

// takeVU takes a free VU; ok is false if there is none.
func (e *executor) takeVU() (v vu, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := len(e.free)
	if n == 0 {
		return v, false
	}
	v, e.free = e.free[n-1], e.free[:n-1]
	return v, true
}

// release frees a VU; the caller holds mu. In open mode VUs are not used again.
func (e *executor) release(v vu) {
	if e.load.Mode != scenario.Open {
		e.free = append(e.free, v)
	}
}
