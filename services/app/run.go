package app

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/openova-io/bp-relay/services/internal/task"
)

// runnable is a part of the process that runs until its context ends.
type runnable struct {
	name string
	run  func(ctx context.Context) error
}

// run runs each as a task until ctx ends or one fails. Then it stops them one
// after another, the newest first, and calls last. A newer module uses older
// ones, so a service still reaches its spool and its API while it stops.
func run(ctx context.Context, runnables []runnable, last func() error) error {
	tasks := make([]*task.Group, len(runnables)) // a group each, so that each stops alone
	errs := make([]error, len(runnables))
	failed := make(chan struct{}, len(runnables))
	for i, r := range runnables {
		tasks[i] = task.New()
		tasks[i].Go(r.name, func(ctx context.Context) {
			err := r.run(ctx)
			if ctx.Err() == nil { // it was not stopped
				if err == nil {
					err = errors.New("ended by itself")
				}
				failed <- struct{}{}
			}
			if err != nil && !errors.Is(err, context.Canceled) {
				errs[i] = fmt.Errorf("%s: %w", r.name, err)
			}
		})
	}
	select {
	case <-ctx.Done():
	case <-failed:
	}
	for _, t := range slices.Backward(tasks) {
		t.Stop()
	}
	slices.Reverse(errs)
	return errors.Join(errors.Join(errs...), last())
}
