package stacktest

import (
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// StartChild starts a program that the kernel kills when this process ends. wait
// returns once the program has exited, with the error of cmd.Wait; it may be
// called again.
//
// The kernel sends the death signal when the thread that forked ends (prctl(2),
// PR_SET_PDEATHSIG), and threads end: package process starts each part on one of
// its own. So a goroutine keeps the thread until the program has exited.
func StartChild(cmd *exec.Cmd) (wait func() error, err error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	started, exited := make(chan error, 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start() //nolint:forbidigo // for tests, which look at a program from outside
		started <- err
		if err == nil {
			exited <- cmd.Wait()
		}
	}()
	return sync.OnceValue(func() error { return <-exited }), <-started
}
