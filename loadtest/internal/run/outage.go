package run

import (
	"fmt"
	"time"
)

// outage is the time in which a VU has no media since its subscriber was
// disconnected: to that user, the picture is frozen.
type outage struct {
	pop     *population
	since   time.Time
	until   time.Time // when the scenario would have made it leave; zero: at the end
	streams int
}

// endOutagesFrom ends the outages of the VUs that a population of that size does
// not include.
func (e *executor) endOutagesFrom(now time.Time, population int) {
	e.mu.Lock()
	var over []int
	for vu := range e.outages {
		if vu >= population {
			over = append(over, vu)
		}
	}
	e.mu.Unlock()
	for _, vu := range over {
		e.endOutage(vu, now)
	}
}

// endOutage ends a VU's outage, if there is one.
func (e *executor) endOutage(vu int, at time.Time) {
	e.mu.Lock()
	o, ok := e.outages[vu]
	delete(e.outages, vu)
	e.mu.Unlock()
	if !ok {
		return
	}
	if !o.until.IsZero() && o.until.Before(at) {
		at = o.until
	}
	seconds := max(0, at.Sub(o.since).Seconds()) * float64(o.streams)
	s := o.pop.shards[0]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left.FreezeSeconds += seconds
	s.left.StreamSeconds += seconds
}

// watch waits until a subscriber's transport ends. If the subscriber was
// disconnected, its VU is free for another join.
func (e *executor) watch(sub *subscriber) {
	<-sub.transport.Done()
	now := time.Now()
	e.mu.Lock()
	_, joined := e.joined[sub]
	delete(e.joined, sub)
	e.mu.Unlock()
	if !joined {
		return // it left
	}
	e.disconnected(sub, now)
	_ = sub.transport.Close() // it has failed already
}

// inFlight bounds the time that packets may spend on the network and in the
// generator's socket after a participant was disconnected.
const inFlight = gather + 60*time.Millisecond

// disconnected records that a subscriber's transport failed. After the end of
// the media it no longer counts as a reconnect.
func (e *executor) disconnected(sub *subscriber, now time.Time) {
	pop := sub.vu.pop
	over := e.r.mediaEnd.Load()
	how := departure{end: now.UnixNano(), sent: e.r.publishers.sentNumbers(sub.vu.room)}
	if over != 0 {
		how.end = min(how.end, over)
	}
	sub.rcv.setLastMessages(e.r.publishers.lastMessages())
	select {
	case <-time.After(inFlight):
	case <-e.r.ctx.Done():
	}
	_, _, streams := sub.rcv.leave(how)
	e.mu.Lock()
	if _, again := e.outages[sub.vu.index]; !again && streams > 0 && over == 0 {
		e.outages[sub.vu.index] = outage{pop: pop, since: now, until: sub.leaveAt, streams: streams}
	}
	e.release(sub.vu)
	e.mu.Unlock()
	pop.mu.Lock()
	defer pop.mu.Unlock()
	pop.current--
	if over == 0 {
		pop.joins.Reconnects++
		e.r.fault(fmt.Errorf("a subscriber was disconnected on %s: %w", pop.name, sub.transport.Err()))
	}
}
