package apiload

import (
	"time"

	"google.golang.org/grpc/status"

	"github.com/openova-io/bp-relay/loadtest/internal/apiload/relay"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// collector counts the outcomes of the calls. It belongs to one goroutine until
// collect returns.
type collector struct {
	l     *load
	start time.Time
	calls result.Calls

	// Of the current second.
	since    time.Time
	second   result.PointPath
	took     *result.Hist
	sent     int64
	received int64
}

func newCollector(l *load, start time.Time) *collector {
	return &collector{
		l: l, start: start, since: start, took: result.NewHist(),
		calls: result.Calls{Codes: map[string]int64{}, Time: result.NewHist()},
	}
}

// collect records outcomes until the channel is closed.
func (s *collector) collect(done <-chan outcome) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case o, more := <-done:
			if !more {
				s.tick(time.Now())
				return
			}
			s.record(o)
		case now := <-tick.C:
			s.tick(now)
		}
	}
}

// record records one outcome. Latency counts from when the call was due, for calls
// that succeeded only: a failure may be quick.
func (s *collector) record(o outcome) {
	s.calls.Codes[status.Code(o.err).String()]++
	s.second.Calls++
	if s.l.c.Lag != nil {
		s.l.c.Lag.Record(o.started.Sub(o.due))
	}
	if o.err != nil {
		s.calls.Failed++
		s.second.Failed++
		s.l.tally.Add(o.method+": "+relay.Kind(o.err), relay.Message(o.err))
		return
	}
	s.calls.Succeeded++
	s.calls.Time.Record(o.ended.Sub(o.due))
	s.took.Record(o.ended.Sub(o.due))
	if o.method == Join {
		s.second.Joins++
	}
}

// tick reports the second that has ended and starts the next.
func (s *collector) tick(now time.Time) {
	sent, received := s.l.wire.sent.Load(), s.l.wire.received.Load()
	if took := now.Sub(s.since).Seconds(); took > 0 && s.l.c.Tick != nil {
		p := s.second
		p.Name, p.Participants = result.KindAPI, len(s.l.slots)
		p.SentBps, p.ReceivedBps = float64(sent-s.sent)*8/took, float64(received-s.received)*8/took
		p.LatencyP50Ms, p.LatencyP99Ms = result.Ms(s.took.Quantile(.5)), result.Ms(s.took.Quantile(.99))
		s.l.c.Tick(p)
	}
	s.since, s.sent, s.received, s.second = now, sent, received, result.PointPath{}
	s.took.Reset()
}

// path returns the result of the whole load.
func (s *collector) path() *result.Path {
	s.calls.Attempted, s.calls.Dropped = s.l.due.Load(), s.l.dropped.Load()
	s.calls.Bytes = s.l.wire.sent.Load() + s.l.wire.received.Load()
	if s.calls.Dropped > 0 {
		s.l.tally.AddN("dropped", "calls were due while all callers were busy (api.callers)", s.calls.Dropped)
	}
	return &result.Path{Name: result.KindAPI, Calls: &s.calls}
}
