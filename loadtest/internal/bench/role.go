package bench

import (
	"context"
	"io"

	"github.com/openova-io/bp-relay/loadtest/internal/child"
)

// role turns a function into a child's role, which decodes the configuration
// and calls the function.
func role[C any](run func(ctx context.Context, c *child.Conn, cfg C) error) child.Role {
	return func(ctx context.Context, c *child.Conn) error {
		var cfg C
		if err := c.Next(&cfg); err != nil {
			return err
		}
		return run(ctx, c, cfg)
	}
}

// answer sends ready to the parent, and then the answer to each request until
// the parent closes.
func answer[Q, A any](c *child.Conn, ready any, f func(Q) (A, error)) error {
	if err := c.Answer(ready); err != nil {
		return err
	}
	for {
		var q Q
		if err := c.Next(&q); err != nil {
			return ended(err)
		}
		a, err := f(q)
		if err != nil {
			return err
		}
		if err := c.Answer(a); err != nil {
			return err
		}
	}
}

// count tells the parent that the child is ready, and answers each request with
// f's result until the parent closes.
func count[T any](c *child.Conn, f func() T) error {
	return answer(c, nil, func(any) (T, error) { return f(), nil })
}

// untilClosed sends ready to the parent and waits until it closes.
func untilClosed(c *child.Conn, ready any) error {
	if err := c.Answer(ready); err != nil {
		return err
	}
	var request any
	return ended(c.Next(&request))
}

// ended returns nil if err is the end of the requests.
func ended(err error) error {
	if err == io.EOF { //nolint:errorlint // Next returns the end itself
		return nil
	}
	return err
}
