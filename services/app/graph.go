package app

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
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

// run runs all tasks until ctx ends or one fails; then all are told to stop
// and waited for.
func (p *process) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, t := range p.tasks {
		g.Go(func() error {
			if err := t.run(ctx); err != nil && ctx.Err() == nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			if ctx.Err() == nil {
				return fmt.Errorf("%s: ended by itself", t.name)
			}
			return nil
		})
	}
	return errors.Join(g.Wait(), p.close())
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
