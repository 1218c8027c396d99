package process

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Logged runs a command like [Run]; the command line and its output go to log.
func Logged(ctx context.Context, cmd *exec.Cmd, log io.Writer) error {
	if _, err := fmt.Fprintf(log, "$ %s\n", strings.Join(cmd.Args, " ")); err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = log, log
	return Run(ctx, cmd)
}

// Output runs a short command like [Run] and returns its standard output. The
// error holds its standard error.
func Output(ctx context.Context, cmd *exec.Cmd) (string, error) {
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := Run(ctx, cmd); err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

// Run runs a command, made with [exec.CommandContext] and ctx, to its end. When
// ctx ends, the command's process group gets SIGTERM and, 10 s later, the
// command gets SIGKILL; the error is ctx's cause then.
func Run(ctx context.Context, cmd *exec.Cmd) error {
	defer tied(cmd)()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		return err
	}
	err := cmd.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
