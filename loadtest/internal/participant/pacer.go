package participant

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/services/rtc/socket"
)

// Pacer sends the frames of many publishers when they are due, on an absolute
// schedule: a late frame does not make the next one late. One goroutine serves them
// all, so that a publisher needs no timer.
type Pacer struct {
	mu    sync.Mutex
	queue sources
	alarm *socket.Alarm
	some  chan struct{} // the queue is no longer empty
	lag   *Lag
}

// NewPacer returns a pacer. Run sends; Close frees it.
func NewPacer() (*Pacer, error) {
	a, err := socket.NewAlarm()
	if err != nil {
		return nil, err
	}
	return &Pacer{alarm: a, some: make(chan struct{}, 1), lag: NewLag()}, nil
}

// Close frees the pacer; Run must have returned.
func (p *Pacer) Close() error { return p.alarm.Close() }

// Lag adds to into how late each frame was sent since the previous call.
func (p *Pacer) Lag(into *result.Hist) { p.lag.Drain(into) }

// add schedules a source from its due time on.
func (p *Pacer) add(s *source) {
	p.mu.Lock()
	heap.Push(&p.queue, s)
	p.mu.Unlock()
	select {
	case p.some <- struct{}{}:
	default:
	}
	p.alarm.Ring()
}

// Run sends until ctx ends.
func (p *Pacer) Run(ctx context.Context) error {
	stop := p.alarm.RingWhenDone(ctx)
	defer stop()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	burst := new(socket.Burst)
	for ctx.Err() == nil {
		wait := time.Until(p.send(ctx, burst))
		if wait <= socket.MaxWait {
			p.alarm.Wait(wait)
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-p.some:
		case <-timer.C:
		}
	}
	return nil
}

// send sends all frames that are due, and returns the time at which the next one is due.
// If frames become due faster than it sends them, it returns only when ctx ends.
func (p *Pacer) send(ctx context.Context, burst *socket.Burst) time.Time {
	for ctx.Err() == nil {
		p.mu.Lock()
		if len(p.queue) == 0 {
			p.mu.Unlock()
			return time.Now().Add(time.Hour)
		}
		s := p.queue[0]
		now := time.Now()
		if s.due > now.UnixNano() {
			p.mu.Unlock()
			return time.Unix(0, s.due)
		}
		heap.Pop(&p.queue)
		p.mu.Unlock()

		late := time.Duration(now.UnixNano() - s.due)
		if sent, more := s.send(burst); more {
			if sent {
				p.lag.Observe(late)
			}
			p.mu.Lock()
			heap.Push(&p.queue, s)
			p.mu.Unlock()
		}
	}
	return time.Now()
}

// sources is a heap of sources by due time.
type sources []*source

func (q sources) Len() int           { return len(q) }
func (q sources) Less(i, j int) bool { return q[i].due < q[j].due }
func (q sources) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *sources) Push(x any)        { *q = append(*q, x.(*source)) }
func (q *sources) Pop() any {
	old := *q
	n := len(old) - 1
	s := old[n]
	old[n] = nil
	*q = old[:n]
	return s
}
