package tunnelload

import (
	"context"
	"errors"
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// recordOpen records how long a session took to open.
func (l *load) recordOpen(took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls.Time.Record(took)
}

// countOpen adds n to the open sessions.
func (l *load) countOpen(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open += n
	l.peak = max(l.peak, l.open)
}

// recordUpdate records the latency of an update.
func (l *load) recordUpdate(took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls.Update.Record(took)
	l.update.Record(took)
	l.second.Packets++
}

// recordLag records the generator's own delay.
func (l *load) recordLag(by time.Duration) {
	if l.c.Lag == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.c.Lag.Record(by)
}

// countDropped counts sessions that were not opened.
func (l *load) countDropped(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls.Attempted += n
	l.calls.Dropped += n
	l.tally.AddN("dropped", "sessions were not opened before the run ended", n)
}

// countEnd counts a session that has ended; err says why it failed.
func (l *load) countEnd(err error) {
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

// ticks calls Tick each second until ctx ends, and once more for the remainder.
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
		p.Name, p.Participants = result.KindTunnel, l.open
		p.SentBps, p.ReceivedBps = float64(s-sent)*8/took, float64(r-received)*8/took
		p.LatencyP50Ms, p.LatencyP99Ms = result.Ms(l.update.Quantile(.5)), result.Ms(l.update.Quantile(.99))
		l.second = result.PointPath{}
		l.update.Reset()
		l.mu.Unlock()
		if l.c.Tick != nil {
			l.c.Tick(p)
		}
		since, sent, received = now, s, r
	}
}

// path returns the result of the whole load, after all sessions have ended.
func (l *load) path() *result.Path {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls.Bytes, l.calls.Instructions = l.received.Load(), l.instructions.Load()
	return &result.Path{Name: result.KindTunnel, Subscribers: l.peak, Calls: &l.calls}
}
