package work

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/openova-io/bp-relay/services/blob"
)

// Coordinator lets the workers of a run agree on their start and collect their
// parts, through objects. It is safe for concurrent use.
type Coordinator struct {
	objects Objects
	config  Config
}

// New returns a coordinator over objects, which Close closes. It uses only the times,
// the clock and the logger of cfg.
func New(objects Objects, cfg Config) *Coordinator { return &Coordinator{objects, cfg.filled()} }

// Close closes the objects' connections and files.
func (c *Coordinator) Close() error { return c.objects.Close() }

// Objects returns the objects of all runs.
func (c *Coordinator) Objects() Objects { return c.objects }

// MissingError lists the workers that did not announce themselves or stored no
// part.
type MissingError struct {
	Run     string
	What    string // what they did not do: "announced themselves", "stored their part", "named the start"
	Workers []int  // ascending
	Count   int    // number of workers in the run
	Cause   error  // why the wait ended; may be nil
}

// Error names at most twenty workers.
func (e *MissingError) Error() string {
	const most = 20
	list, more := e.Workers, ""
	if len(list) > most {
		list, more = list[:most], fmt.Sprintf(" and %d more", len(list)-most)
	}
	text := fmt.Sprintf("work: run %s: %d of %d workers have not %s: %v%s; check their logs, and start the run again under another id",
		e.Run, len(e.Workers), e.Count, e.What, list, more)
	if e.Cause != nil {
		text += " (" + e.Cause.Error() + ")"
	}
	return text
}

// Unwrap returns the cause.
func (e *MissingError) Unwrap() error { return e.Cause }

// patiently retries fn while the store is unavailable, because an hour's
// measurement is worth minutes of waiting.
func (c *Coordinator) patiently(ctx context.Context, what string, fn func() error) error {
	deadline := c.config.Now().Add(c.config.Patience)
	pause := c.config.Poll
	for {
		err := fn()
		if err == nil || !errors.Is(err, blob.ErrUnavailable) || ctx.Err() != nil {
			return err
		}
		if !c.config.Now().Before(deadline) {
			return fmt.Errorf("%w; retried for %v", err, c.config.Patience)
		}
		c.config.Logger.WarnContext(ctx, "work: the store is unavailable, retrying", "op", what, "error", err)
		if serr := sleep(ctx, pause); serr != nil {
			return errors.Join(err, serr)
		}
		pause = min(2*pause, 10*time.Second)
	}
}

// sleep waits, or returns ctx's cause if ctx ends first.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
