// Package groupcommit makes one commit out of many concurrent updates. Callers
// queue. A committer, one goroutine per writer connection, opens a transaction,
// gives it to one caller after the other, commits once and answers all. A
// caller's function runs in the caller's own goroutine: a panic or
// runtime.Goexit in it is the caller's, and it never runs after the caller has
// returned.
package groupcommit

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/openova-io/bp-relay/services/records"
)

// A group takes the updates that arrive while it is open, up to these bounds,
// so that the first one does not wait indefinitely for its commit.
const (
	maxUpdates = 1024
	maxOpen    = 50 * time.Millisecond
)

var (
	// ErrGone is the error of Update.Run if the caller no longer waits: its
	// function was not run.
	ErrGone = errors.New("groupcommit: the caller has left")
	// ErrAborted is the error of Update.Run if the function ended by a panic or
	// runtime.Goexit, which continues in the caller's goroutine.
	ErrAborted = errors.New("groupcommit: the function did not return")
)

// Update is one call of Do, as the committer sees it. T is what its function is
// given.
type Update[T any] struct {
	fn   func(T) error
	run  chan T
	ran  chan error
	done chan error
	gone chan struct{}
}

// Run gives tx to the caller, waits until its function has ended, and returns
// what the function returned, ErrGone or ErrAborted. It may be called again if
// the transaction must be repeated.
func (u *Update[T]) Run(tx T) error {
	select {
	case u.run <- tx:
		return <-u.ran
	case <-u.gone:
		return ErrGone
	}
}

// Answer is what the caller's Do returns. It is called once and never blocks.
func (u *Update[T]) Answer(err error) { u.done <- err }

// call runs the function in the caller's goroutine.
func (u *Update[T]) call(tx T) {
	err := ErrAborted
	defer func() { u.ran <- err }()
	err = u.fn(tx)
}

// Queue passes updates from callers to committers. It is safe for concurrent
// use.
type Queue[T any] struct {
	in         chan *Update[T]
	committers sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	callers sync.WaitGroup // grows only while not closed
}

// New starts n committers. commit gets the first update of a group and a
// function that returns the next waiting one, or nil once the group should be
// committed. It must answer every update that it was given.
func New[T any](n int, commit func(first *Update[T], next func() *Update[T])) *Queue[T] {
	q := &Queue[T]{in: make(chan *Update[T], maxUpdates)}
	for range n {
		q.committers.Go(func() {
			for first := range q.in {
				commit(first, q.next())
			}
		})
	}
	return q
}

// next returns the function that supplies one group.
func (q *Queue[T]) next() func() *Update[T] {
	taken, opened := 1, time.Now()
	return func() *Update[T] {
		if taken == maxUpdates || time.Since(opened) > maxOpen {
			return nil
		}
		select {
		case u := <-q.in: // nil once the queue is closed and empty
			taken++
			return u
		default:
			return nil
		}
	}
}

// Do runs fn in the next group and returns once the group's transaction has
// ended: nil means that it is durable. If ctx ends first, Do returns ctx's
// error and the write may or may not happen; fn itself is never interrupted.
// After Close it returns records.ErrClosed.
func (q *Queue[T]) Do(ctx context.Context, fn func(T) error) error {
	if !q.enter() {
		return records.ErrClosed
	}
	defer q.callers.Done()
	if err := ctx.Err(); err != nil {
		return err
	}
	u := &Update[T]{fn: fn, run: make(chan T), ran: make(chan error, 1),
		done: make(chan error, 1), gone: make(chan struct{})}
	select {
	case q.in <- u:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer close(u.gone)
	for {
		select {
		case tx := <-u.run:
			u.call(tx)
		case err := <-u.done:
			return err
		case <-ctx.Done():
			select {
			case err := <-u.done:
				return err
			default:
				return ctx.Err()
			}
		}
	}
}

func (q *Queue[T]) enter() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.callers.Add(1)
	return true
}

// Close refuses new callers, waits for the present ones and for the committers,
// and reports whether this call closed the queue (false: an earlier one did).
func (q *Queue[T]) Close() bool {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return false
	}
	q.closed = true
	q.mu.Unlock()
	q.callers.Wait()
	close(q.in)
	q.committers.Wait()
	return true
}
