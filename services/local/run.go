package local

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// runLogged runs a building command, made with ctx, to its end with its output
// in log. When ctx ends, its process group gets SIGTERM and it, 10 s later,
// SIGKILL; when this process dies, the command dies.
func runLogged(ctx context.Context, cmd *exec.Cmd, log *os.File) error {
	if _, err := fmt.Fprintf(log, "$ %s\n", strings.Join(cmd.Args, " ")); err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = log, log
	return runGroup(ctx, cmd)
}

// output runs a short command and returns what it wrote to standard output.
func output(ctx context.Context, cmd *exec.Cmd) (string, error) {
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := runGroup(ctx, cmd); err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

func runGroup(ctx context.Context, cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	// The death signal comes when the thread that started the child ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
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
