package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// module is one part of the process: what it needs, and how it is made. Make
// adds what is to run and to close to the process.
type module struct {
	needs []string
	make  func(ctx context.Context, p *process) error
}

// order returns the wanted modules and all that they need, each after what it
// needs. A circle or an unknown name is an error.
func order(graph map[string]module, wanted ...string) ([]string, error) {
	var out []string
	state := make(map[string]int) // 1: being visited, 2: done
	var visit func(name, by string) error
	visit = func(name, by string) error {
		m, ok := graph[name]
		switch {
		case !ok:
			return fmt.Errorf("module %s needs %s, which does not exist", by, name)
		case state[name] == 1:
			return fmt.Errorf("modules %s and %s need each other", by, name)
		case state[name] == 2:
			return nil
		}
		state[name] = 1
		for _, n := range m.needs {
			if err := visit(n, name); err != nil {
				return err
			}
		}
		state[name] = 2
		out = append(out, name)
		return nil
	}
	for _, name := range slices.Sorted(slices.Values(wanted)) {
		if err := visit(name, "the process"); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// build makes the wanted modules in order; on an error what was made is
// closed again.
func (p *process) build(ctx context.Context, graph map[string]module, wanted ...string) error {
	names, err := order(graph, wanted...)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := graph[name].make(ctx, p); err != nil {
			return errors.Join(fmt.Errorf("%s: %w", name, err), p.close())
		}
	}
	return nil
}

// task is something that runs until its context ends.
type task struct {
	name string
	run  func(ctx context.Context) error
}

// run runs all tasks until ctx ends or one fails. Then they are stopped one
// after another, the newest first: what was made later uses what was made
// before, so a service still reaches its spool and its API while it stops.
func (p *process) run(ctx context.Context) error {
	running := make([]*running, len(p.tasks))
	failed := make(chan struct{}, len(p.tasks))
	for i, t := range p.tasks {
		running[i] = start(context.WithoutCancel(ctx), t, failed)
	}
	select {
	case <-ctx.Done():
	case <-failed:
	}
	var errs []error
	for _, r := range slices.Backward(running) {
		errs = append(errs, r.stop())
	}
	return errors.Join(errors.Join(errs...), p.close())
}

// running is a task that was started.
type running struct {
	name   string
	cancel context.CancelFunc
	done   chan error
}

func start(ctx context.Context, t task, failed chan<- struct{}) *running {
	ctx, cancel := context.WithCancel(ctx)
	r := &running{name: t.name, cancel: cancel, done: make(chan error, 1)}
	go func() {
		err := t.run(ctx)
		if ctx.Err() == nil { // nobody asked it to
			if err == nil {
				err = errors.New("ended by itself")
			}
			failed <- struct{}{}
		}
		r.done <- err
	}()
	return r
}

// stop ends the task and waits for it.
func (r *running) stop() error {
	r.cancel()
	err := <-r.done
	if err == nil || errors.Is(err, context.Canceled) {
		return nil
	}
	return fmt.Errorf("%s: %w", r.name, err)
}

// close frees what was made, the newest first.
func (p *process) close() error {
	var errs []error
	for _, c := range slices.Backward(p.closers) {
		errs = append(errs, c())
	}
	p.closers = nil
	return errors.Join(errs...)
}
