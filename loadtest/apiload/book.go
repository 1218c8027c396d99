package apiload

import (
	"time"

	"google.golang.org/grpc/status"

	"github.com/openova-io/bp-relay/loadtest/apiload/relay"
	"github.com/openova-io/bp-relay/loadtest/report"
)

// book counts what came of the calls. It belongs to one goroutine until keep
// has returned.
type book struct {
	l     *load
	start time.Time
	calls report.Calls

	// Of the second that runs.
	since    time.Time
	second   report.PointPath
	took     *report.Hist
	sent     int64
	received int64
}

func newBook(l *load, start time.Time) *book {
	return &book{
		l: l, start: start, since: start, took: report.NewHist(),
		calls: report.Calls{Codes: map[string]int64{}, Time: report.NewHist()},
	}
}

// keep takes outcomes until the channel is closed.
func (b *book) keep(done <-chan outcome) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case o, more := <-done:
			if !more {
				b.tick(time.Now())
				return
			}
			b.take(o)
		case now := <-tick.C:
			b.tick(now)
		}
	}
}

// take enters one outcome. The time of a call counts from when it was due, and
// only of calls that succeeded: a failure may be quick.
func (b *book) take(o outcome) {
	b.calls.Codes[status.Code(o.err).String()]++
	b.second.Calls++
	if b.l.c.Lag != nil {
		b.l.c.Lag.Record(o.begun.Sub(o.due))
	}
	if o.err != nil {
		b.calls.Failed++
		b.second.Failed++
		b.l.tally.Add(o.method+": "+relay.Kind(o.err), relay.Message(o.err))
		return
	}
	b.calls.Succeeded++
	b.calls.Time.Record(o.ended.Sub(o.due))
	b.took.Record(o.ended.Sub(o.due))
	if o.method == Join {
		b.second.Joins++
	}
}

// tick tells of the second that is over and begins the next.
func (b *book) tick(now time.Time) {
	sent, received := b.l.wire.sent.Load(), b.l.wire.received.Load()
	if took := now.Sub(b.since).Seconds(); took > 0 && b.l.c.Tick != nil {
		p := b.second
		p.Name, p.Participants = report.KindAPI, len(b.l.slots)
		p.SentBps, p.ReceivedBps = float64(sent-b.sent)*8/took, float64(received-b.received)*8/took
		p.LatencyP50Ms, p.LatencyP99Ms = report.Ms(b.took.Quantile(.5)), report.Ms(b.took.Quantile(.99))
		b.l.c.Tick(p)
	}
	b.since, b.sent, b.received, b.second = now, sent, received, report.PointPath{}
	b.took.Reset()
}

// path is what the whole load came to.
func (b *book) path() *report.Path {
	b.calls.Attempted, b.calls.Dropped = b.l.due.Load(), b.l.dropped.Load()
	b.calls.Bytes = b.l.wire.sent.Load() + b.l.wire.received.Load()
	if b.calls.Dropped > 0 {
		b.l.tally.AddN("dropped", "calls were due while all callers were busy (api.callers)", b.calls.Dropped)
	}
	return &report.Path{Name: report.KindAPI, Calls: &b.calls}
}
