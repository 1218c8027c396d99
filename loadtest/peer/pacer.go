package peer

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"github.com/openova-io/bp-relay/loadtest/report"
	"github.com/openova-io/bp-relay/loadtest/wire"
)

// Pacer sends the frames of many publishers when they are due, on an absolute
// schedule: a frame that was late does not make the next one late. One goroutine
// does it, so that publishers cost no timer each.
type Pacer struct {
	mu    sync.Mutex
	queue sources
	alarm *wire.Alarm
	some  chan struct{} // tells of a source where there was none

	lagMu sync.Mutex
	lag   *report.Hist
}

// NewPacer makes one; Close frees it.
func NewPacer() (*Pacer, error) {
	a, err := wire.NewAlarm()
	if err != nil {
		return nil, err
	}
	return &Pacer{alarm: a, some: make(chan struct{}, 1), lag: report.NewHist()}, nil
}

// Close frees it; Run must have returned.
func (p *Pacer) Close() error { return p.alarm.Close() }

// Lag gives and empties the distribution of how late frames were sent.
func (p *Pacer) Lag(into *report.Hist) {
	p.lagMu.Lock()
	defer p.lagMu.Unlock()
	into.Add(p.lag)
	p.lag.Reset()
}

// add lets a source send from its due time on.
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
	stop := wire.WhenDone(ctx, p.alarm.Ring)
	defer stop()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	burst := new(wire.Burst)
	for ctx.Err() == nil {
		wait := time.Until(p.send(ctx, burst))
		if wait <= wire.Longest {
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

// send sends all that is due and says when the next frame is. Where more is due
// than can be sent, that has no end but ctx's.
func (p *Pacer) send(ctx context.Context, burst *wire.Burst) time.Time {
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
				p.lagMu.Lock()
				p.lag.Record(late)
				p.lagMu.Unlock()
			}
			p.mu.Lock()
			heap.Push(&p.queue, s)
			p.mu.Unlock()
		}
	}
	return time.Now()
}

// sources is a heap by due time.
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
