package app

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// Tasks stop one after another, the newest first, and no error is lost: neither
// that of the failed task nor those of the tasks that stop after it.
func TestRunKeepsEveryError(t *testing.T) {
	var order []string
	first, second := errors.New("spool not flushed"), errors.New("disk gone")
	waits := func(name string, err error) runnable {
		return runnable{name, func(ctx context.Context) error {
			<-ctx.Done()
			order = append(order, name)
			return err
		}}
	}
	tasks := []runnable{waits("oldest", nil), waits("spool", first), {"fails", func(context.Context) error { return second }}, waits("newest", context.Canceled)}
	err := run(t.Context(), tasks, func() error { order = append(order, "closed"); return errors.New("closing failed") })
	require.Equal(t, []string{"newest", "spool", "oldest", "closed"}, order)
	require.ErrorIs(t, err, first)
	require.ErrorIs(t, err, second)
	require.EqualError(t, err, "fails: disk gone\nspool: spool not flushed\nclosing failed")
}

// A task that returns before it is stopped stops the process.
func TestTaskThatEndsByItself(t *testing.T) {
	tasks := []runnable{{"quiet", func(context.Context) error { return nil }}}
	require.EqualError(t, run(t.Context(), tasks, func() error { return nil }), "quiet: ended by itself")
}
