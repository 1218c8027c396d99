package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// spec says how one server is run.
type spec struct {
	part Name
	argv []string // argv[0] is the program's path, inside chroot if that is set
	env  []string // added to a small environment of our own
	dir  string   // working directory
	log  string   // file for its output

	chroot string
	cred   *syscall.Credential

	ports []Port
	// ready is asked again and again until it returns nil; each attempt has
	// two seconds.
	ready func(context.Context) error
	// within bounds the whole start; 0 means 60 s.
	within time.Duration
	// grace is how long a stop waits before SIGKILL; 0 means 5 s.
	grace time.Duration
	// stop asks the server to end; 0 means SIGTERM.
	stop syscall.Signal
	// do is what to do when it does not start, or "".
	do string
}

// Exit tells that a part ended that nobody had stopped.
type Exit struct {
	Part Name
	// Err is how it ended: "exit status 1", "signal: killed".
	Err error
	// Log is its log file and Last the last line in it.
	Log, Last string
}

func (e Exit) Error() string {
	return fmt.Sprintf("%s ended by itself (%v); it last said: %s; its log is %s", e.Part, e.Err, e.Last, e.Log)
}

func (e Exit) Unwrap() error { return e.Err }

// Process is a part's server under supervision. Its methods are safe for
// concurrent use.
type Process struct {
	spec   spec
	onExit func(Exit)

	mu  sync.Mutex
	run *running // nil while stopped
}

// running is one life of a process.
type running struct {
	pid    int
	offset int64         // where in the log this life begins
	done   chan struct{} // closed after it was reaped; err is set before
	err    error

	mu      sync.Mutex
	watched bool // healthy and not being stopped: an end is reported
	ended   bool // reaped: the pid may belong to another process by now
}

// watch begins or ends the time in which an end is reported. It is false
// where the process has ended already.
func (r *running) watch(on bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watched = on
	return !r.ended
}

// family is the process and all that belong to it, or nil once it has ended.
func (r *running) family() []procID {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return nil
	}
	return family(r.pid)
}

// signal sends to the process itself, unless it has ended.
func (r *running) signal(sig syscall.Signal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ended {
		_ = syscall.Kill(r.pid, sig)
	}
}

// launch starts a process and waits until it is healthy.
func launch(ctx context.Context, s spec, onExit func(Exit)) (*Process, error) {
	p := &Process{spec: s, onExit: onExit}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.start(ctx); err != nil {
		return nil, err
	}
	return p, nil
}

// Part is the part that the process belongs to.
func (p *Process) Part() Name { return p.spec.part }

// Log is the path of the process's log file.
func (p *Process) Log() string { return p.spec.log }

// Pid is the process's id, or 0 while it is stopped.
func (p *Process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run == nil {
		return 0
	}
	return p.run.pid
}

// Stop ends the process and all below it, with SIGKILL where it takes too
// long, and returns when all have ended. Stopping twice is allowed.
func (p *Process) Stop() error { return p.end(p.spec.stop, p.spec.grace) }

// Kill ends the process and all below it with SIGKILL, for fault tests.
// [Process.Restart] brings it back.
func (p *Process) Kill() error { return p.end(syscall.SIGKILL, 0) }

// Pause stops the process and all below it with SIGSTOP: it keeps its ports
// and connections and answers nothing.
func (p *Process) Pause() error { return p.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (p *Process) Resume() error { return p.signal(syscall.SIGCONT) }

// Restart starts the process again with the same ports and data, stopping it
// first if it runs, and waits until it is healthy.
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
		return fmt.Errorf("local: %s does not run", p.spec.part)
	}
	signalAll(p.run.family(), sig)
	return nil
}

func (p *Process) end(sig syscall.Signal, grace time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.run
	if r == nil {
		return nil
	}
	if sig == 0 {
		sig = syscall.SIGTERM
	}
	if grace == 0 {
		grace = 5 * time.Second
	}
	r.watch(false)
	procs := r.family()
	if sig == syscall.SIGKILL {
		signalAll(procs, sig)
	} else {
		r.signal(sig)
		signalAll(procs, syscall.SIGCONT) // it may be paused
		select {
		case <-r.done:
		case <-time.After(grace):
		}
		procs = append(procs, r.family()...)
		signalAll(procs, syscall.SIGKILL)
	}
	<-r.done
	p.run = nil
	if !gone(procs, 5*time.Second) {
		return fmt.Errorf("local: %s left processes that do not end", p.spec.part)
	}
	return nil
}

// start needs p.mu.
func (p *Process) start(ctx context.Context) error {
	for _, port := range p.spec.ports {
		if err := port.check(p.spec.part); err != nil {
			return err
		}
	}
	r, err := p.spawn()
	if err != nil {
		return &StartError{Part: p.spec.part, Log: p.spec.log, Do: p.spec.do, Err: err}
	}
	err = p.healthy(ctx, r)
	if err == nil {
		p.run = r
		return nil
	}
	procs := r.family()
	signalAll(procs, syscall.SIGKILL)
	<-r.done
	gone(procs, 5*time.Second)
	if ctx.Err() != nil {
		return fmt.Errorf("start of %s interrupted: %w", p.spec.part, context.Cause(ctx))
	}
	return &StartError{Part: p.spec.part, Log: p.spec.log, Last: lastLine(p.spec.log, r.offset), Do: p.spec.do, Err: err}
}

// healthy waits until the part answers its health check.
func (p *Process) healthy(ctx context.Context, r *running) error {
	within := p.spec.within
	if within == 0 {
		within = 60 * time.Second
	}
	limit, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	pause := 20 * time.Millisecond
	for {
		try, cancelTry := context.WithTimeout(limit, 2*time.Second)
		err := p.spec.ready(try)
		cancelTry()
		if err == nil && r.watch(true) { // false: something else answered in its place
			return nil
		}
		select {
		case <-r.done:
			return fmt.Errorf("it ended at once (%w)", r.err)
		case <-limit.Done():
			return fmt.Errorf("not healthy after %s: %w", within, err)
		case <-time.After(pause):
		}
		pause = min(2*pause, 250*time.Millisecond)
	}
}

// spawn runs the program. The goroutine that starts it keeps its thread until
// the end, because the kernel sends the parent's death signal when the thread
// ends that forked: see prctl(2), PR_SET_PDEATHSIG.
func (p *Process) spawn() (*running, error) {
	if err := os.MkdirAll(filepath.Dir(p.spec.log), 0o755); err != nil {
		return nil, err
	}
	out, err := os.OpenFile(p.spec.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	r := &running{done: make(chan struct{})}
	if st, err := out.Stat(); err == nil {
		r.offset = st.Size()
	}
	cmd := &exec.Cmd{
		Path: p.spec.argv[0], Args: p.spec.argv, Dir: p.spec.dir,
		Env:    append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "TZ=UTC"}, p.spec.env...),
		Stdout: out, Stderr: out,
		SysProcAttr: &syscall.SysProcAttr{
			Setpgid: true, Pdeathsig: syscall.SIGKILL,
			Chroot: p.spec.chroot, Credential: p.spec.cred,
		},
	}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(r.done)
		defer func() { _ = out.Close() }()
		err := cmd.Start()
		if err == nil {
			r.pid = cmd.Process.Pid
		}
		started <- err
		if err != nil {
			return
		}
		waitEnded(r.pid)
		r.mu.Lock()
		left := family(r.pid) // while the pid is still ours
		r.err = cmd.Wait()
		r.ended = true
		report := r.watched
		r.mu.Unlock()
		signalAll(left, syscall.SIGKILL)
		if r.err == nil {
			r.err = errors.New("exit status 0")
		}
		if report && p.onExit != nil {
			p.onExit(Exit{Part: p.spec.part, Err: r.err, Log: p.spec.log, Last: lastLine(p.spec.log, r.offset)})
		}
	}()
	if err := <-started; err != nil {
		<-r.done
		return nil, err
	}
	return r, nil
}

// waitEnded waits until the child has ended and leaves it to be reaped, so
// that its pid cannot be given to another process meanwhile.
func waitEnded(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}
