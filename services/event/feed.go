package event

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/records"
)

const (
	// pollEvery is how often new events are looked for without a hint of the bus.
	pollEvery = time.Second
	// pollPause is the least time between two looks, so that many hints are one.
	pollPause = 50 * time.Millisecond
	// windowEvents and windowBytes bound the newest events of one organisation that
	// are kept in memory. A watcher that is further behind reads the records.
	windowEvents = 1000
	windowBytes  = 1 << 20
)

// feeds look for new events, once for all watchers of this process, and hold the
// newest ones for them. An idle watcher costs the records nothing. It is safe for
// concurrent use.
type feeds struct {
	records records.DB
	bus     bus.Bus
	log     *slog.Logger
	wake    chan struct{}

	mu   sync.Mutex
	orgs map[string]*feed // those that somebody watches
}

// feed is one organisation's. The lock of feeds guards it.
type feed struct {
	watchers int
	// last is the newest sequence that is known, unknown before the first look.
	last int64
	// window has the events up to last, without a hole. It may be empty.
	window []records.Event
	bytes  int
	// moved is closed, and replaced, when last has changed.
	moved chan struct{}
}

const unknown = -1

func newFeeds(cfg Config) *feeds {
	return &feeds{records: cfg.Records, bus: cfg.Bus, log: cfg.Logger, wake: make(chan struct{}, 1), orgs: make(map[string]*feed)}
}

// join counts a watcher of the organisation, leave counts it out. It returns false
// if there are most already.
func (f *feeds) join(org string, most int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.orgs[org]
	switch {
	case o == nil:
		f.orgs[org] = &feed{watchers: 1, last: unknown, moved: make(chan struct{})}
		f.poke()
	case o.watchers >= most:
		return false
	default:
		o.watchers++
	}
	return true
}

func (f *feeds) leave(org string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.orgs[org]
	if o.watchers--; o.watchers == 0 {
		delete(f.orgs, org)
	}
}

// poke has new events looked for soon.
func (f *feeds) poke() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// next returns the events that follow sequence after. If there are none, moved is
// closed once there may be some. If they are not in memory any more, behind is set:
// the watcher reads the records, which have them up to last.
func (f *feeds) next(org string, after int64) (events []records.Event, last int64, behind bool, moved <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.orgs[org]
	switch {
	case after >= o.last: // also if it is unknown
		return nil, o.last, false, o.moved
	case len(o.window) == 0 || o.window[0].Seq > after+1:
		return nil, o.last, true, o.moved
	}
	// The window is replaced, never written to, so that it can be read unlocked.
	return o.window[after+1-o.window[0].Seq:], o.last, false, o.moved
}

// run looks for new events until ctx ends.
func (f *feeds) run(ctx context.Context) error {
	var listening sync.WaitGroup
	listening.Go(func() { f.listen(ctx) })
	defer listening.Wait()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	failures := 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-f.wake:
		}
		switch err := f.poll(ctx); {
		case err == nil:
			failures = 0
		case ctx.Err() == nil:
			if failures++; failures&(failures-1) == 0 { // 1, 2, 4, 8, ...
				f.log.WarnContext(ctx, "cannot look for events; watchers wait", "attempt", failures, "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pollPause):
		}
	}
}

// listen wakes run when the sequencer says that it has numbered events. A hint that
// is lost costs pollEvery.
func (f *feeds) listen(ctx context.Context) {
	for ctx.Err() == nil {
		hints, err := f.bus.Subscribe(ctx, bus.EventsNumbered)
		if err == nil {
			f.poke() // what was said before
			for range hints {
				f.poke()
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(pollEvery):
		}
	}
}

// poll asks, in one transaction, for the newest sequence of every organisation that
// is watched, and reads the events of those that have new ones.
func (f *feeds) poll(ctx context.Context) error {
	f.mu.Lock()
	known := make(map[string]int64, len(f.orgs))
	orgs := make([]string, 0, len(f.orgs))
	for org, o := range f.orgs {
		known[org] = o.last
		orgs = append(orgs, org)
	}
	f.mu.Unlock()
	if len(orgs) == 0 {
		return nil
	}
	newest, err := f.records.Log().LastEvents(ctx, orgs)
	if err != nil {
		return err
	}
	for org, last := range known {
		now := newest[org]
		var events []records.Event
		if last != unknown && now > last && now-last <= windowEvents {
			if events, err = f.records.Log().Events(ctx, org, last, windowEvents); err != nil {
				return err
			}
		}
		if now != last {
			f.advance(org, last, now, events)
		}
	}
	return nil
}

// advance notes the organisation's new events, and wakes its watchers. events are
// those after last; without any, watchers read the records up to now.
func (f *feeds) advance(org string, last, now int64, events []records.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.orgs[org]
	if o == nil || o.last != last {
		return // everybody has left, and perhaps somebody has come
	}
	if n := len(events); n > 0 && events[0].Seq == last+1 && events[n-1].Seq == last+int64(n) && events[n-1].Seq >= now {
		o.append(events)
	} else {
		o.window, o.bytes, o.last = nil, 0, now
	}
	close(o.moved)
	o.moved = make(chan struct{})
}

// append adds events that follow the window, and forgets the oldest ones that are
// too many.
func (o *feed) append(events []records.Event) {
	all := make([]records.Event, 0, len(o.window)+len(events))
	all = append(append(all, o.window...), events...)
	for _, e := range events {
		o.bytes += size(e)
	}
	for len(all) > windowEvents || (o.bytes > windowBytes && len(all) > 0) {
		o.bytes -= size(all[0])
		all = all[1:]
	}
	o.window, o.last = all, events[len(events)-1].Seq
}

func size(e records.Event) int { return len(e.ID) + len(e.Type) + len(e.Subject) + len(e.Body) }
