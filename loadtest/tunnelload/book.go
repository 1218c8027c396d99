package tunnelload

import (
	"context"
	"errors"
	"time"

	"github.com/openova-io/bp-relay/loadtest/report"
)

// entered enters a session that was opened.
func (l *load) entered(took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls.Time.Record(took)
}

// opened counts the sessions that are up.
func (l *load) opened(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open += n
	l.most = max(l.most, l.open)
}

// arrived enters an update.
func (l *load) arrived(took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls.Update.Record(took)
	l.update.Record(took)
	l.second.Packets++
}

// lagged enters how late we were ourselves.
func (l *load) lagged(by time.Duration) {
	if l.c.Lag == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.c.Lag.Record(by)
}

// dropped enters sessions that were not opened.
func (l *load) dropped(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls.Attempted += n
	l.calls.Dropped += n
	l.tally.AddN("dropped", "sessions were not opened: the run ended before", n)
}

// ended enters a session that is over.
func (l *load) ended(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls.Attempted++
	l.second.Calls++
	if err == nil {
		l.calls.Succeeded++
		l.calls.Codes["OK"]++
		return
	}
	l.calls.Failed++
	l.second.Failed++
	code, text := "error", err.Error()
	if b, is := errors.AsType[*BrokenError](err); is {
		code, text = b.Code, b.Text
	}
	l.calls.Codes[code]++
	l.tally.Add("session: "+code, text)
}

// ticks tells of each second until ctx ends, and then of the rest.
func (l *load) ticks(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	since := time.Now()
	var sent, received int64
	for more := true; more; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			more = false
		}
		now := time.Now()
		s, r, took := l.sent.Load(), l.received.Load(), now.Sub(since).Seconds()
		l.mu.Lock()
		p := l.second
		p.Name, p.Participants = report.KindTunnel, l.open
		p.SentBps, p.ReceivedBps = float64(s-sent)*8/took, float64(r-received)*8/took
		p.LatencyP50Ms, p.LatencyP99Ms = report.Ms(l.update.Quantile(.5)), report.Ms(l.update.Quantile(.99))
		l.second = report.PointPath{}
		l.update.Reset()
		l.mu.Unlock()
		if l.c.Tick != nil {
			l.c.Tick(p)
		}
		since, sent, received = now, s, r
	}
}

// path is what the whole load came to; every session has ended.
func (l *load) path() *report.Path {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls.Bytes, l.calls.Instructions = l.received.Load(), l.instructions.Load()
	return &report.Path{Name: report.KindTunnel, Subscribers: l.most, Calls: &l.calls}
}
