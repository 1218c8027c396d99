// Package group makes one commit out of many concurrent updates. Callers
// queue; a leader, one goroutine per writer connection, opens a transaction,
// lends it to one caller after the other, commits once and answers all. A
// caller's function runs in the caller's own goroutine, so that a panic or a
// runtime.Goexit in it is the caller's, and so that it can never run after
// the caller has returned.
package group

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/openova-io/bp-relay/services/store"
)

// Bounds of one group: as many members as arrive while it is open, up to
// these, so that the first one does not wait for ever for its commit.
const (
	maxMembers = 1024
	maxOpen    = 50 * time.Millisecond
)

var (
	// ErrGone is what Member.Run returns when the caller no longer waits: its
	// function was not run.
	ErrGone = errors.New("group: the caller has left")
	// ErrAborted is what Member.Run returns when the function ended by a panic
	// or runtime.Goexit, which goes on in the caller's goroutine.
	ErrAborted = errors.New("group: the function did not return")
)

// Member is one caller of Do, as the leader sees it. T is the transaction
// that is lent.
type Member[T any] struct {
	fn   func(T) error
	run  chan T
	ran  chan error
	done chan error
	gone chan struct{}
}

// Run lends tx to the caller, waits until its function ended, and returns
// what the function returned, ErrGone or ErrAborted. It may be called again
// when the transaction has to be repeated.
func (m *Member[T]) Run(tx T) error {
	select {
	case m.run <- tx:
		return <-m.ran
	case <-m.gone:
		return ErrGone
	}
}

// Answer ends the caller's wait. It is called once and never blocks.
func (m *Member[T]) Answer(err error) { m.done <- err }

// call runs the function in the caller's goroutine.
func (m *Member[T]) call(tx T) {
	err := ErrAborted
	defer func() { m.ran <- err }()
	err = m.fn(tx)
}

// Queue is where callers meet leaders. It is safe for concurrent use.
type Queue[T any] struct {
	in      chan *Member[T]
	leaders sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	callers sync.WaitGroup // grows only while not closed
}

// New starts n leaders. lead gets the first member of a group and a function
// that returns the next one that waits, or nil when the group should be
// committed; it must answer every member that it was given.
func New[T any](n int, lead func(first *Member[T], more func() *Member[T])) *Queue[T] {
	q := &Queue[T]{in: make(chan *Member[T], maxMembers)}
	for range n {
		q.leaders.Go(func() {
			for first := range q.in {
				lead(first, q.more())
			}
		})
	}
	return q
}

// more returns the supply of one group.
func (q *Queue[T]) more() func() *Member[T] {
	members, opened := 1, time.Now()
	return func() *Member[T] {
		if members == maxMembers || time.Since(opened) > maxOpen {
			return nil
		}
		select {
		case m := <-q.in: // nil once the queue is closed and empty
			members++
			return m
		default:
			return nil
		}
	}
}

// Do runs fn in the next group and returns once its transaction has ended:
// nil when it is durable. When ctx ends first it returns ctx's error, and the
// write may or may not happen; fn itself is never interrupted.
func (q *Queue[T]) Do(ctx context.Context, fn func(T) error) error {
	if !q.enter() {
		return store.ErrClosed
	}
	defer q.callers.Done()
	if err := ctx.Err(); err != nil {
		return err
	}
	m := &Member[T]{fn: fn, run: make(chan T), ran: make(chan error, 1),
		done: make(chan error, 1), gone: make(chan struct{})}
	select {
	case q.in <- m:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer close(m.gone)
	for {
		select {
		case tx := <-m.run:
			m.call(tx)
		case err := <-m.done:
			return err
		case <-ctx.Done():
			select {
			case err := <-m.done:
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

// Close refuses new callers, waits for those that are waiting and for the
// leaders, and reports whether this call was the one that closed.
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
	q.leaders.Wait()
	return true
}
