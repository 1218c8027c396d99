// Package task owns goroutines. A Group starts functions, passes them a
// context that ends when the group stops, and waits for all of them: whoever
// holds the group knows that nothing runs after Stop has returned. Each task
// has a key, usually a resource name, so that its owner can ask whether this
// process already works on that resource.
package task

import (
	"context"
	"sync"
)

// Group is a set of running tasks. Its zero value is not usable; call New or
// NewHeld. All methods are safe for concurrent use.
type Group struct {
	ctx    context.Context //nolint:containedctx // the parent of all tasks: they outlive the calls that start them
	cancel context.CancelFunc

	mu      sync.Mutex // guards all below, and running.Add against Stop
	keys    map[string]int
	held    bool      // tasks wait for Release
	waiting []pending // what Release starts
	stopped bool
	running sync.WaitGroup
}

// pending is a task that waits for Release.
type pending struct {
	key string
	run func()
}

// New returns a group that starts tasks at once.
func New() *Group {
	g := &Group{keys: map[string]int{}}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	return g
}

// NewHeld returns a group that starts no task before Release is called.
func NewHeld() *Group {
	g := New()
	g.held = true
	return g
}

// Go runs fn in a goroutine with a context that ends when the group stops. It
// returns false, and does not run fn, if the group has stopped.
func (g *Group) Go(key string, fn func(ctx context.Context)) bool {
	return g.start(key, false, fn)
}

// GoOnce is Go, but also returns false while another task has the same key.
func (g *Group) GoOnce(key string, fn func(ctx context.Context)) bool {
	return g.start(key, true, fn)
}

func (g *Group) start(key string, once bool, fn func(ctx context.Context)) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped || once && g.keys[key] > 0 {
		return false
	}
	g.keys[key]++
	run := func() {
		g.running.Go(func() {
			defer g.remove(key)
			fn(g.ctx)
		})
	}
	if g.held {
		g.waiting = append(g.waiting, pending{key, run})
	} else {
		run()
	}
	return true
}

// Begin makes the caller's own goroutine a task until done is called, which
// must happen exactly once. ctx ends when the group stops or done is called.
// ok is false if the group has stopped; done is nil then.
func (g *Group) Begin(key string) (ctx context.Context, done func(), ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return nil, nil, false
	}
	ctx, cancel := context.WithCancel(g.ctx)
	g.keys[key]++
	g.running.Add(1)
	return ctx, func() {
		cancel()
		g.remove(key)
		g.running.Done()
	}, true
}

func (g *Group) remove(key string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forget(key)
}

// forget needs g.mu.
func (g *Group) forget(key string) {
	if g.keys[key]--; g.keys[key] == 0 {
		delete(g.keys, key)
	}
}

// Has reports whether a task with this key runs or waits for Release.
func (g *Group) Has(key string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.keys[key] > 0
}

// Release starts the tasks of a held group; later ones start at once. It does
// nothing if the group has stopped.
func (g *Group) Release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return
	}
	g.held = false
	for _, p := range g.waiting {
		p.run()
	}
	g.waiting = nil
}

// Cancel ends the context of all tasks without waiting for them. New tasks
// still start, with a context that has ended.
func (g *Group) Cancel() { g.cancel() }

// Close refuses new tasks, and forgets those that wait for Release. It does
// not end those that run.
func (g *Group) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.waiting {
		g.forget(p.key)
	}
	g.stopped, g.waiting = true, nil
}

// Wait waits until no task runs. Call Close first, or new ones may start.
func (g *Group) Wait() { g.running.Wait() }

// Stop refuses new tasks, ends the context of those that run, and waits for
// them. It may be called more than once.
func (g *Group) Stop() {
	g.Close()
	g.cancel()
	g.running.Wait()
}
