package apiload

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/openova-io/bp-relay/loadtest/apiload/relay"
	"github.com/openova-io/bp-relay/loadtest/report"
)

// job is a call that is due.
type job struct {
	method string
	due    time.Time
}

// outcome is what came of it.
type outcome struct {
	job
	begun, ended time.Time
	err          error
}

// load is one run.
type load struct {
	c     Config
	rooms *rooms
	wire  *wire
	tally relay.Tally

	due     atomic.Int64 // calls that were due so far
	dropped atomic.Int64
	slots   chan struct{} // one for each call under way
}

// Run calls for the scenario's time and returns what came of it: every call
// that was due succeeded, failed or was dropped. A server that goes away makes
// failures, not an error. An error of type *relay.RefusedError says that the
// API did not take the first calls and no load was sent. When ctx ends, the
// path holds what was done so far, and the error is the cause.
func Run(ctx context.Context, c Config) (path *report.Path, err error) {
	c, err = c.filled()
	if err != nil {
		return nil, err
	}
	l := &load{c: c, wire: &wire{}, slots: make(chan struct{}, c.Load.Callers)}
	var conns []*grpc.ClientConn
	defer func() {
		for _, conn := range conns {
			err = errors.Join(err, conn.Close())
		}
	}()
	for range c.Connections {
		conn, err := c.Target.Dial(grpc.WithStatsHandler(l.wire))
		if err != nil {
			return nil, err
		}
		conns = append(conns, conn)
	}
	if l.rooms, err = newRooms(c, conns); err != nil {
		return nil, err
	}
	if err := l.rooms.prepare(ctx); err != nil {
		return nil, errors.Join(err, l.rooms.tidy(ctx))
	}
	load := func() { path = l.run(ctx) }
	if c.Measured != nil {
		c.Measured(load)
	} else {
		load()
	}
	cause := context.Cause(ctx) // what ends it from now on changes nothing
	if terr := l.rooms.tidy(ctx); terr != nil {
		c.Logger.WarnContext(ctx, "rooms are left", "error", terr)
		if t, is := asTidy(terr); is {
			l.tally.AddN("rooms not deleted", terr.Error(), int64(t.Rooms))
		}
	}
	if c.Errors != nil {
		c.Errors(l.tally.Lines())
	}
	return path, cause
}

// run offers the load and waits for the last answer.
func (l *load) run(ctx context.Context) *report.Path {
	jobs, done := make(chan job, l.c.Load.Callers), make(chan outcome, l.c.Load.Callers)
	b := newBook(l, time.Now())
	booked := make(chan struct{})
	go func() {
		defer close(booked)
		b.keep(done)
	}()
	var callers sync.WaitGroup
	for range l.c.Load.Callers {
		callers.Go(func() {
			for j := range jobs {
				done <- l.make(ctx, j)
			}
		})
	}
	l.offer(ctx, b.start, jobs)
	close(jobs)
	callers.Wait()
	close(done)
	<-booked
	return b.path()
}

// make makes one call.
func (l *load) make(ctx context.Context, j job) outcome {
	o := outcome{job: j, begun: time.Now()}
	ctx, cancel := context.WithTimeout(counted(ctx), l.c.Timeout)
	o.err = l.rooms.call(ctx, j.method)
	cancel()
	o.ended = time.Now()
	<-l.slots
	return o
}

// offer hands each call to a caller at its moment. jobs takes as many as there
// are slots, so that handing over never waits.
func (l *load) offer(ctx context.Context, start time.Time, jobs chan<- job) {
	methods := newDeal(l.c.Load.Mix)
	n := int64(l.c.Load.Rate * l.c.Load.Hold.Seconds())
	for i := range n {
		due := start.Add(time.Duration(float64(i) / l.c.Load.Rate * float64(time.Second)))
		if !until(ctx, due) {
			return
		}
		j := job{method: methods.next(), due: due}
		l.due.Add(1)
		select {
		case l.slots <- struct{}{}:
			jobs <- j
		default:
			l.dropped.Add(1)
		}
	}
}
