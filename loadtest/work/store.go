package work

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/openova-io/bp-relay/services/blob"
)

// Store is where the workers of runs meet. It is safe for concurrent use.
type Store struct {
	objects Objects
	config  Config
}

// New is a store over given objects; Close closes them. Of the configuration
// only the times, the clock and the logger count.
func New(objects Objects, cfg Config) *Store { return &Store{objects, cfg.filled()} }

// Close lets go of the store's connections and files.
func (s *Store) Close() error { return s.objects.Close() }

// Objects is what the store keeps its objects in.
func (s *Store) Objects() Objects { return s.objects }

// MissingError says which workers did not come, or left no part.
type MissingError struct {
	Run     string
	What    string // what they did not do: "announced themselves", "left their part", "named the start"
	Workers []int  // ascending
	Count   int    // of how many
	Cause   error  // why it was not waited for any longer; may be nil
}

// Error names at most twenty workers.
func (e *MissingError) Error() string {
	const most = 20
	list, more := e.Workers, ""
	if len(list) > most {
		list, more = list[:most], fmt.Sprintf(" and %d more", len(list)-most)
	}
	text := fmt.Sprintf("work: run %s: %d of %d workers have not %s: %v%s; look at the logs of these, and start the run again under another id",
		e.Run, len(e.Workers), e.Count, e.What, list, more)
	if e.Cause != nil {
		text += " (" + e.Cause.Error() + ")"
	}
	return text
}

// Unwrap is the cause.
func (e *MissingError) Unwrap() error { return e.Cause }

// patiently repeats fn over times when the store is away: what a worker has
// measured in an hour is worth waiting minutes for.
func (s *Store) patiently(ctx context.Context, what string, fn func() error) error {
	deadline := s.config.Now().Add(s.config.Patience)
	pause := s.config.Poll
	for {
		err := fn()
		if err == nil || !errors.Is(err, blob.ErrUnavailable) || ctx.Err() != nil {
			return err
		}
		if !s.config.Now().Before(deadline) {
			return fmt.Errorf("%w; it was tried for %v", err, s.config.Patience)
		}
		s.config.Logger.WarnContext(ctx, "work: the store is away, trying again", "what", what, "error", err)
		if serr := sleep(ctx, pause); serr != nil {
			return errors.Join(err, serr)
		}
		pause = min(2*pause, 10*time.Second)
	}
}

// sleep waits, or returns the reason why ctx ended.
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
