package child

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// Role is a function of this program as a child: it reads its configuration,
// answers that it is ready, and answers requests until [io.EOF].
type Role func(ctx context.Context, c *Conn) error

// Roles maps names to roles.
type Roles map[string]Role

// Conn is the child's end. It belongs to one goroutine.
type Conn struct {
	in  *json.Decoder
	out *json.Encoder
}

// Next decodes the next request, the first of which is the configuration. It
// returns io.EOF once the parent has closed the input.
func (c *Conn) Next(v any) error {
	if err := c.in.Decode(v); err != nil {
		if err == io.EOF {
			return io.EOF
		}
		return fmt.Errorf("read request: %w", err)
	}
	return nil
}

// Answer sends the answer to the last request.
func (c *Conn) Answer(v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	return c.out.Encode(reply{Value: raw})
}

// flag is the first argument of this program as a child.
const flag = "as-child"

// Run runs the role that the arguments (without the program's name) name.
// handled is false if they name none; code is the exit code.
func (r Roles) Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) (code int, handled bool) {
	if len(args) != 2 || args[0] != flag {
		return 0, false
	}
	c := &Conn{in: json.NewDecoder(stdin), out: json.NewEncoder(stdout)}
	role, ok := r[args[1]]
	err := fmt.Errorf("no role %q", args[1])
	if ok {
		err = role(ctx, c)
	}
	if err == nil || err == io.EOF { //nolint:errorlint // Next's own; a role whose download broke off wraps it
		return 0, true
	}
	if werr := c.out.Encode(reply{Error: err.Error()}); werr != nil {
		fmt.Fprintln(stderr, args[1]+":", err)
	}
	return 1, true
}

// Again starts this program as a child in a role, with its configuration.
func Again(ctx context.Context, role string, config, ready any) (*Child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", role, err)
	}
	raw, err := json.Marshal(config)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", role, err)
	}
	return start(ctx, role, []string{self, flag, role}, raw, ready)
}
