// Package child runs a measured part as a process of its own, so that its CPU
// time and its memory are its own too. The two ends talk in lines of JSON over
// the child's standard input and output: the parent sends a request, the child
// answers. A child ends when its input ends, so that none outlives its parent.
//
// A child is either a program of someone else that keeps to the same lines, or
// this program again with a role: see [Roles].
package child

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// grace is how long a child has to end after its input ended.
const grace = 10 * time.Second

// reply is one answer line.
type reply struct {
	Value json.RawMessage `json:"value,omitempty"`
	Error string          `json:"error,omitempty"`
}

// Error is what a child said went wrong.
type Error struct{ Name, Text string }

func (e *Error) Error() string { return e.Name + ": " + e.Text }

// Process is a running child. It belongs to one goroutine.
type Process struct {
	name  string
	cmd   *exec.Cmd
	in    io.WriteCloser
	read  *os.File
	out   *json.Decoder
	ended chan struct{}
	err   error // of Wait; read after ended
}

// Start runs cmd, whose standard input and output become ours, and waits for
// its first answer, which is decoded into ready (nil: it is thrown away). The
// child dies with this process, whatever happens.
func Start(ctx context.Context, name string, cmd *exec.Cmd, ready any) (*Process, error) {
	return start(ctx, name, cmd, nil, ready)
}

func start(ctx context.Context, name string, cmd *exec.Cmd, first []byte, ready any) (*Process, error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	// Not StdoutPipe: Wait would close it while an answer is being read.
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, errors.Join(err, in.Close()))
	}
	cmd.Stdout = write
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p := &Process{name: name, cmd: cmd, in: in, read: read, out: json.NewDecoder(read), ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The death signal comes when the thread that started the child ends.
		runtime.LockOSThread()
		defer close(p.ended)
		err := cmd.Start()
		closed := write.Close()
		started <- err
		if err == nil {
			p.err = errors.Join(cmd.Wait(), closed)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, errors.Join(err, read.Close()))
	}
	if first != nil {
		// A child that has ended already says why in its answer.
		_, _ = in.Write(append(first, '\n'))
	}
	if err := p.receive(ctx, ready); err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return p, nil
}

// Pid is the child's process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Call sends a request and decodes the answer into out (nil: it is thrown
// away). When ctx ends first the child is killed: what it would answer then
// belongs to no question.
func (p *Process) Call(ctx context.Context, request, out any) error {
	raw, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("ask %s: %w", p.name, err)
	}
	if _, err := p.in.Write(append(raw, '\n')); err != nil {
		return fmt.Errorf("ask %s: %w", p.name, err)
	}
	return p.receive(ctx, out)
}

func (p *Process) receive(ctx context.Context, out any) error {
	var r reply
	var err error
	got := make(chan struct{})
	go func() {
		defer close(got)
		err = p.out.Decode(&r)
	}()
	select {
	case <-got:
	case <-ctx.Done():
		_ = p.cmd.Process.Kill() // an error: it has ended
		<-got
		return fmt.Errorf("%s: %w", p.name, context.Cause(ctx))
	}
	switch {
	case err != nil:
		return fmt.Errorf("%s ended without an answer: %w", p.name, err)
	case r.Error != "":
		return &Error{Name: p.name, Text: r.Error}
	case out == nil || len(r.Value) == 0:
		return nil
	}
	if err := json.Unmarshal(r.Value, out); err != nil {
		return fmt.Errorf("answer of %s: %w", p.name, err)
	}
	return nil
}

// Stop ends the child's input, and so the child; one that takes too long is
// killed. The error is how it ended. Stopping twice is allowed.
func (p *Process) Stop() error {
	_ = p.in.Close()                      // an error: it was closed before
	defer func() { _ = p.read.Close() }() // only read from; twice is an error
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-timer.C:
		_ = p.cmd.Process.Kill()
		<-p.ended
		return fmt.Errorf("%s did not end within %s", p.name, grace)
	}
	if p.err != nil {
		return fmt.Errorf("%s: %w", p.name, p.err)
	}
	return nil
}

// State is how an ended child ended, with its CPU time and memory. It is nil
// before Stop.
func (p *Process) State() *os.ProcessState { return p.cmd.ProcessState }
