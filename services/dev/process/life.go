package process

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// life is one run of a program, from its start to its end.
type life struct {
	pid    int
	offset int64         // where in the log this life begins
	done   chan struct{} // closed once it was reaped; err and state are set before
	err    error
	state  *os.ProcessState

	mu      sync.Mutex
	watched bool // ready and not being stopped: an exit is reported
	ended   bool // reaped: the pid may belong to another process by now
}

// watch begins or ends the time in which an exit is reported. It returns
// false if the process has ended already.
func (r *life) watch(on bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watched = on
	return !r.ended
}

// family returns the process and all that belong to it, or nil once it has
// ended.
func (r *life) family() []procID {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return nil
	}
	return family(r.pid)
}

// signal sends to the process itself, unless it has ended.
func (r *life) signal(sig syscall.Signal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ended {
		_ = syscall.Kill(r.pid, sig)
	}
}

// spawn runs the program.
func spawn(s *Spec) (*life, error) {
	path := s.Args[0]
	if filepath.Base(path) == path {
		found, err := exec.LookPath(path)
		if err != nil {
			return nil, err
		}
		path = found
	}
	r := &life{done: make(chan struct{})}
	out, err := r.openLog(s.Log)
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{
		Path: path, Args: s.Args, Env: s.Env, Dir: s.Dir,
		SysProcAttr: &syscall.SysProcAttr{Chroot: s.Chroot, Credential: s.Credential, Cloneflags: s.Namespaces},
	}
	if s.Stdin != nil {
		cmd.Stdin = s.Stdin
	}
	if out != nil {
		cmd.Stdout, cmd.Stderr = out, out
	}
	if s.Stdout != nil {
		cmd.Stdout = s.Stdout
	}
	if s.Stderr != nil {
		cmd.Stderr = s.Stderr
	}
	started := make(chan error, 1)
	go r.own(cmd, out, s, started)
	if err := <-started; err != nil {
		<-r.done
		return nil, err
	}
	return r, nil
}

func (r *life) openLog(path string) (*os.File, error) {
	if path == "" {
		return nil, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	out, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	if st, err := out.Stat(); err == nil {
		r.offset = st.Size()
	}
	return out, nil
}

// own starts the command and owns it until it is reaped. Its goroutine keeps
// its thread for that time, see [tied], and ends it: see [settle].
func (r *life) own(cmd *exec.Cmd, out *os.File, s *Spec, started chan<- error) {
	tied(cmd)
	defer close(r.done)
	defer func() { _ = out.Close() }() // nil: an error that does not matter
	err := settle(s.Confined)
	if err == nil {
		err = cmd.Start()
	}
	if err == nil {
		r.pid = cmd.Process.Pid
	}
	started <- err
	if err != nil {
		return
	}
	waitExited(r.pid)
	r.mu.Lock()
	left := family(r.pid) // while the pid still belongs to it
	r.err = cmd.Wait()
	r.state = cmd.ProcessState
	r.ended = true
	report := r.watched
	r.mu.Unlock()
	signalAll(left, syscall.SIGKILL)
	if r.err == nil {
		r.err = errors.New("exit status 0")
	}
	if report && s.OnExit != nil {
		s.OnExit(Exit{Name: s.Name, Err: r.err, Log: s.Log, Last: LastLine(s.Log, r.offset)})
	}
}

// tied gives the command a process group of its own and ties its life to this
// process's. The kernel sends the death signal when the thread that forked
// ends (prctl(2), PR_SET_PDEATHSIG), so the goroutine keeps its thread until
// it calls the returned function.
func tied(cmd *exec.Cmd) (untie func()) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	runtime.LockOSThread()
	return runtime.UnlockOSThread
}

// waitExited waits until the child has exited and leaves it to be reaped, so
// that its pid cannot be given to another process meanwhile.
func waitExited(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}
