package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
)

// Spec says how a program is run.
type Spec struct {
	// Name is what messages call the program: "livekit".
	Name string
	// Args is the command line. Args[0] is the program's path, inside Chroot
	// if that is set, or a name to look for on PATH.
	Args []string
	// Env is the whole environment; nil means this process's.
	Env []string
	// Dir is the working directory; "" means this process's.
	Dir string
	// Log is a file to which standard output and error are appended; it is
	// made, with its folder, if it does not exist (mode 0600). "" means none.
	Log string
	// Stdin, Stdout and Stderr replace the null device, the log and the log.
	// They stay the caller's to close.
	Stdin, Stdout, Stderr *os.File

	// Chroot and Credential are as in [syscall.SysProcAttr].
	Chroot     string
	Credential *syscall.Credential
	// Namespaces are the namespaces that the program gets of its own: flags of
	// clone(2), such as CLONE_NEWPID. They need root.
	Namespaces uintptr
	// Confined takes from the program, and from all below it, every way to gain
	// privileges (no_new_privs) and the system calls that no server needs
	// (seccomp(2)): these answer EPERM.
	Confined bool

	// Before is called before each start; its error is returned as it is.
	// Nil: nothing is called.
	Before func() error
	// Ready is called until it returns nil; each call has two seconds. Nil:
	// the process is ready at once.
	Ready func(context.Context) error
	// Every bounds the pause between two calls of Ready; 0 means 250 ms.
	Every time.Duration
	// Within bounds the whole start; 0 means 60 s.
	Within time.Duration
	// Hint is what to do if the program does not start, or "".
	Hint string

	// Signal asks the process to stop; 0 means SIGTERM. AskToStop, if not
	// nil, is called instead: it closes the process's input, for example.
	Signal    syscall.Signal
	AskToStop func()
	// Grace is how long Stop waits before it sends SIGKILL; 0 means 5 s.
	Grace time.Duration
	// KillIsNormal makes a SIGKILL after Grace no error of Stop: for servers
	// that wait for their clients and lose nothing by a kill.
	KillIsNormal bool
	// OnExit is called, from another goroutine, if the process exits by itself
	// after it was ready. Stop and Done wait for it to return: it must not call
	// a method of the Process, which would wait forever. Nil: nothing is called.
	OnExit func(Exit)
}

// Process is a supervised process. It can be stopped and started again, so it
// has one life or several. Its methods are safe for concurrent use.
type Process struct {
	spec Spec

	mu   sync.Mutex
	run  *life // nil while stopped
	last *life // the newest, running or not; nil before the first start
}

// Start runs a program and waits until it is ready. ctx bounds the start, not
// the life. The error is a *[StartError], the error of [Spec.Before], or says
// that ctx ended.
func Start(ctx context.Context, s Spec) (*Process, error) {
	p := &Process{spec: s}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.start(ctx); err != nil {
		return nil, err
	}
	return p, nil
}

// Name is [Spec.Name].
func (p *Process) Name() string { return p.spec.Name }

// Log is the path of the log file.
func (p *Process) Log() string { return p.spec.Log }

// Pid returns the process id, or 0 while the process is stopped.
func (p *Process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run == nil {
		return 0
	}
	return p.run.pid
}

// Done returns a channel that is closed when the current or the last life has
// ended and was reaped.
func (p *Process) Done() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last.done
}

// State returns the exit status, CPU time and peak memory of the last life, or
// nil if that still runs.
func (p *Process) State() *os.ProcessState {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.last.done:
		return p.last.state
	default:
		return nil
	}
}

// Stop asks the process to stop, kills it and all processes below it if that
// takes longer than [Spec.Grace], and returns when all have ended. Stopping
// twice is allowed.
func (p *Process) Stop() error { return p.stop(false) }

// Kill ends the process and all below it with SIGKILL, for fault tests.
// [Process.Restart] brings it back.
func (p *Process) Kill() error { return p.stop(true) }

// Pause stops the process and all below it with SIGSTOP: it keeps its ports
// and connections and answers nothing.
func (p *Process) Pause() error { return p.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (p *Process) Resume() error { return p.signal(syscall.SIGCONT) }

// Restart stops the process if it runs, starts it again from the same [Spec],
// and waits until it is ready.
func (p *Process) Restart(ctx context.Context) error {
	if err := p.Stop(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run != nil {
		return nil // another Restart was quicker
	}
	return p.start(ctx)
}

func (p *Process) signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run == nil {
		return fmt.Errorf("process: %s does not run", p.spec.Name)
	}
	signalAll(p.run.family(), sig)
	return nil
}

func (p *Process) stop(kill bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.run
	if r == nil {
		return nil
	}
	r.watch(false)
	procs := r.family()
	forced := false
	if kill {
		signalAll(procs, syscall.SIGKILL)
	} else {
		forced = !p.askToStop(r, procs)
		procs = append(procs, r.family()...)
		signalAll(procs, syscall.SIGKILL)
	}
	<-r.done
	p.run = nil
	if !gone(procs, 5*time.Second) {
		return fmt.Errorf("process: %s left processes that do not end", p.spec.Name)
	}
	if forced && !p.spec.KillIsNormal {
		return fmt.Errorf("%s did not stop within %s and was killed%s", p.spec.Name, p.grace(), p.whereLog())
	}
	return nil
}

// askToStop asks the process to stop and reports whether it did within the
// grace.
func (p *Process) askToStop(r *life, procs []procID) bool {
	switch sig := p.spec.Signal; {
	case p.spec.AskToStop != nil:
		p.spec.AskToStop()
	case sig != 0:
		r.signal(sig)
	default:
		r.signal(syscall.SIGTERM)
	}
	signalAll(procs, syscall.SIGCONT) // it may be paused
	timer := time.NewTimer(p.grace())
	defer timer.Stop()
	select {
	case <-r.done:
		return true
	case <-timer.C:
		return false
	}
}

func (p *Process) grace() time.Duration {
	if p.spec.Grace == 0 {
		return 5 * time.Second
	}
	return p.spec.Grace
}

func (p *Process) whereLog() string {
	if p.spec.Log == "" {
		return ""
	}
	return "; its log is " + p.spec.Log
}

// start needs p.mu.
func (p *Process) start(ctx context.Context) error {
	if p.spec.Before != nil {
		if err := p.spec.Before(); err != nil {
			return err
		}
	}
	failed := &StartError{Name: p.spec.Name, Log: p.spec.Log, Hint: p.spec.Hint}
	r, err := spawn(&p.spec)
	if err != nil {
		failed.Err = err
		return failed
	}
	err = p.ready(ctx, r)
	if err == nil {
		p.run, p.last = r, r
		return nil
	}
	procs := r.family()
	signalAll(procs, syscall.SIGKILL)
	<-r.done
	gone(procs, 5*time.Second)
	if ctx.Err() != nil {
		return fmt.Errorf("start of %s interrupted: %w", p.spec.Name, context.Cause(ctx))
	}
	failed.Last, failed.Err = LastLine(p.spec.Log, r.offset), err
	return failed
}

// ready waits until the program is ready.
func (p *Process) ready(ctx context.Context, r *life) error {
	if p.spec.Ready == nil {
		r.watch(true)
		return nil
	}
	within, every := p.spec.Within, p.spec.Every
	if within == 0 {
		within = 60 * time.Second
	}
	if every == 0 {
		every = 250 * time.Millisecond
	}
	limit, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	pause := min(20*time.Millisecond, every)
	for {
		attempt, cancelAttempt := context.WithTimeout(limit, 2*time.Second)
		err := p.spec.Ready(attempt)
		cancelAttempt()
		if err == nil && r.watch(true) { // false: something else answered in its place
			return nil
		}
		select {
		case <-r.done:
			return fmt.Errorf("it exited at once (%w)", r.err)
		case <-limit.Done():
			if err == nil {
				err = errors.New("it has exited")
			}
			return fmt.Errorf("not ready after %s: %w", within, err)
		case <-time.After(pause):
		}
		pause = min(2*pause, every)
	}
}
