package app

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// Tasks stop the newest first, one after another, and no error is lost:
// neither that of the task that failed nor those of the ones that stop after.
func TestRunKeepsEveryError(t *testing.T) {
	var order []string
	first, second := errors.New("spool not flushed"), errors.New("disk gone")
	waits := func(name string, err error) task {
		return task{name, func(ctx context.Context) error {
			<-ctx.Done()
			order = append(order, name)
			return err
		}}
	}
	p := &process{
		tasks: []task{waits("oldest", nil), waits("spool", first), {"fails", func(context.Context) error { return second }}, waits("newest", context.Canceled)},
		closers: []func() error{
			func() error { order = append(order, "closed"); return errors.New("closing failed") },
		},
	}
	err := p.run(t.Context())
	require.Equal(t, []string{"newest", "spool", "oldest", "closed"}, order)
	require.ErrorIs(t, err, first)
	require.ErrorIs(t, err, second)
	require.EqualError(t, err, "fails: disk gone\nspool: spool not flushed\nclosing failed")
}

// A task that ends although nobody asked it to stops the process.
func TestTaskThatEndsByItself(t *testing.T) {
	p := &process{tasks: []task{{"quiet", func(context.Context) error { return nil }}}}
	require.EqualError(t, p.run(t.Context()), "quiet: ended by itself")
}
