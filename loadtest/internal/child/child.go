// Package child runs the measured code in a separate process, so that its CPU
// time and memory can be measured separately. Parent and child exchange lines
// of JSON over the child's standard input and output: the parent sends a
// request, the child answers. A child exits when its input ends.
//
// A child is either another program that follows this protocol, or this program
// in a role: see [Roles].
package child

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/openova-io/bp-relay/services/dev/process"
)

// grace is how long a child may take to exit after its input has ended.
const grace = 10 * time.Second

// reply is one answer line.
type reply struct {
	Value json.RawMessage `json:"value,omitempty"`
	Error string          `json:"error,omitempty"`
}

// Error is an error in a child's answer.
type Error struct{ Name, Text string }

func (e *Error) Error() string { return e.Name + ": " + e.Text }

// Child is a running child. It belongs to one goroutine.
type Child struct {
	*process.Process
	in  *os.File
	out *os.File
	dec *json.Decoder // of out
}

// Start runs the command line args, with this process's standard error, and
// decodes the child's first answer into ready (nil: it is discarded). The child
// dies with this process.
func Start(ctx context.Context, name string, args []string, ready any) (*Child, error) {
	return start(ctx, name, args, nil, ready)
}

func start(ctx context.Context, name string, args []string, first []byte, ready any) (*Child, error) {
	stdin, in, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	out, stdout, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, errors.Join(err, stdin.Close(), in.Close()))
	}
	c := &Child{in: in, out: out, dec: json.NewDecoder(out)}
	c.Process, err = process.Start(ctx, process.Spec{
		Name: name, Args: args, Stdin: stdin, Stdout: stdout, Stderr: os.Stderr,
		AskToStop: func() { _ = in.Close() }, Grace: grace,
	})
	// The child has its own copies.
	if err := errors.Join(err, stdin.Close(), stdout.Close()); err != nil {
		return nil, errors.Join(err, c.close())
	}
	if first != nil {
		// If the child has exited already, its answer has the reason.
		_, _ = in.Write(append(first, '\n'))
	}
	if err := c.receive(ctx, ready); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

// Call sends a request and decodes the answer into out (nil: it is discarded).
// If ctx ends first, the child is killed: a late answer would be taken for the
// answer to the next request. If the child answers with an error, it is an
// *[Error].
func (c *Child) Call(ctx context.Context, request, out any) error {
	raw, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("ask %s: %w", c.Name(), err)
	}
	if _, err := c.in.Write(append(raw, '\n')); err != nil {
		return fmt.Errorf("ask %s: %w", c.Name(), err)
	}
	return c.receive(ctx, out)
}

func (c *Child) receive(ctx context.Context, out any) error {
	var r reply
	var err error
	got := make(chan struct{})
	go func() {
		defer close(got)
		err = c.dec.Decode(&r)
	}()
	select {
	case <-got:
	case <-ctx.Done():
		err := c.Kill()
		<-got
		return errors.Join(fmt.Errorf("%s: %w", c.Name(), context.Cause(ctx)), err)
	}
	switch {
	case err != nil:
		return fmt.Errorf("%s exited without an answer: %w", c.Name(), err)
	case r.Error != "":
		return &Error{Name: c.Name(), Text: r.Error}
	case out == nil || len(r.Value) == 0:
		return nil
	}
	if err := json.Unmarshal(r.Value, out); err != nil {
		return fmt.Errorf("answer of %s: %w", c.Name(), err)
	}
	return nil
}

// Stop closes the child's input, so that it exits, and returns its exit status
// as an error: nil for 0. A child that does not exit within 10 s is killed.
// Stopping twice is allowed.
func (c *Child) Stop() error {
	err := c.Process.Stop()
	if state := c.State(); err == nil && !state.Success() {
		err = fmt.Errorf("%s: %s", c.Name(), state)
	}
	return errors.Join(err, c.close())
}

// close closes the pipes. It may be called twice.
func (c *Child) close() error {
	for _, f := range []*os.File{c.in, c.out} {
		if err := f.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			return err
		}
	}
	return nil
}
