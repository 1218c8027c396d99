package apiload

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/openova-io/bp-relay/loadtest/internal/apiload/relay"
	"github.com/openova-io/bp-relay/loadtest/internal/result"
)

// call is a call that is due.
type call struct {
	method string
	due    time.Time
}

// outcome is a call with its outcome.
type outcome struct {
	call
	started, ended time.Time
	err            error
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

// Run calls for the scenario's time and returns the result: every call that was
// due succeeded, failed or was dropped. If the server becomes unavailable, calls
// fail; that is not an error. The error is a *relay.RefusedError if the API
// refused the first calls, so that no load was sent. If ctx ends, the path holds
// the result so far, and the error is the cause.
func Run(ctx context.Context, c Config) (path *result.Path, err error) {
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
	cause := context.Cause(ctx) // if ctx ends from now on, the result is complete
	if terr := l.rooms.tidy(ctx); terr != nil {
		c.Logger.WarnContext(ctx, "rooms were not deleted", "error", terr)
		if t, is := asTidy(terr); is {
			l.tally.AddN("rooms not deleted", terr.Error(), int64(t.Rooms))
		}
	}
	if c.Errors != nil {
		c.Errors(l.tally.Lines())
	}
	return path, cause
}

// run makes the calls and waits for the last answer.
func (l *load) run(ctx context.Context) *result.Path {
	calls, done := make(chan call, l.c.Load.Callers), make(chan outcome, l.c.Load.Callers)
	s := newCollector(l, time.Now())
	booked := make(chan struct{})
	go func() {
		defer close(booked)
		s.collect(done)
	}()
	var callers sync.WaitGroup
	for range l.c.Load.Callers {
		callers.Go(func() {
			for c := range calls {
				done <- l.do(ctx, c)
			}
		})
	}
	l.offer(ctx, s.start, calls)
	close(calls)
	callers.Wait()
	close(done)
	<-booked
	return s.path()
}

// do makes one call.
func (l *load) do(ctx context.Context, c call) outcome {
	o := outcome{call: c, started: time.Now()}
	ctx, cancel := context.WithTimeout(counted(ctx), l.c.Timeout)
	o.err = l.rooms.call(ctx, c.method)
	cancel()
	o.ended = time.Now()
	<-l.slots
	return o
}

// offer passes each call to a caller when it is due. The channel has a place for
// each slot, so that passing never blocks.
func (l *load) offer(ctx context.Context, start time.Time, calls chan<- call) {
	methods := newRotation(l.c.Load.Mix)
	n := int64(l.c.Load.Rate * l.c.Load.Hold.Seconds())
	for i := range n {
		due := start.Add(time.Duration(float64(i) / l.c.Load.Rate * float64(time.Second)))
		if !until(ctx, due) {
			return
		}
		c := call{method: methods.next(), due: due}
		l.due.Add(1)
		select {
		case l.slots <- struct{}{}:
			calls <- c
		default:
			l.dropped.Add(1)
		}
	}
}
