package child_test

import (
	"context"
	"errors"
	"io"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/openova-io/bp-relay/loadtest/internal/child"
)

// TestMain also runs this test binary as its own child.
func TestMain(m *testing.M) {
	roles := child.Roles{"adder": adder, "mute": mute}
	if code, handled := roles.Run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr); handled {
		os.Exit(code)
	}
	goleak.VerifyTestMain(m)
}

type config struct{ Base int }

func adder(_ context.Context, c *child.Conn) error {
	var cfg config
	if err := c.Next(&cfg); err != nil {
		return err
	}
	if cfg.Base < 0 {
		return errors.New("negative base")
	}
	if err := c.Answer(os.Getpid()); err != nil {
		return err
	}
	for {
		var n int
		if err := c.Next(&n); err != nil {
			return err
		}
		if n == 13 {
			return errors.New("not that one")
		}
		if err := c.Answer(cfg.Base + n); err != nil {
			return err
		}
	}
}

func mute(_ context.Context, c *child.Conn) error {
	var cfg config
	if err := c.Next(&cfg); err != nil {
		return err
	}
	return c.Next(&cfg)
}

func TestCalls(t *testing.T) {
	var pid int
	p, err := child.Again(t.Context(), "adder", config{Base: 40}, &pid)
	require.NoError(t, err)
	require.Equal(t, pid, p.Pid())
	var sum int
	require.NoError(t, p.Call(t.Context(), 2, &sum))
	require.Equal(t, 42, sum)
	require.NoError(t, p.Call(t.Context(), 3, nil))
	require.NoError(t, p.Stop())
	require.NoError(t, p.Stop(), "twice")
	require.Positive(t, p.State().UserTime()+p.State().SystemTime())
	require.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH, "the process is gone")
}

func TestErrorsOfTheChild(t *testing.T) {
	_, err := child.Again(t.Context(), "adder", config{Base: -1}, nil)
	var said *child.Error
	require.ErrorAs(t, err, &said)
	require.Equal(t, "negative base", said.Text)

	_, err = child.Again(t.Context(), "nobody", nil, nil)
	require.ErrorAs(t, err, &said)

	p, err := child.Again(t.Context(), "adder", config{}, nil)
	require.NoError(t, err)
	require.ErrorAs(t, p.Call(t.Context(), 13, nil), &said)
	require.Error(t, p.Call(t.Context(), 1, nil), "it has ended")
	require.Error(t, p.Stop(), "exit code 1")
}

func TestChildThatSaysNothing(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := child.Again(ctx, "mute", config{}, nil)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestForeignProgram(t *testing.T) {
	var address string
	p, err := child.Start(t.Context(), "sh", []string{"sh", "-c", `echo '{"value":"127.0.0.1:1"}'; cat >/dev/null`}, &address)
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:1", address)
	require.NoError(t, p.Stop())

	_, err = child.Start(t.Context(), "none", []string{"/nonexistent"}, nil)
	require.ErrorIs(t, err, os.ErrNotExist)

	_, err = child.Start(t.Context(), "true", []string{"true"}, nil)
	require.ErrorIs(t, err, io.EOF)
}
