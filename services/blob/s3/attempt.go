package s3

import (
	"context"
	"math/rand/v2"
	"time"
)

// Pauses between tries: full jitter up to firstPause, which doubles each time.
const (
	firstPause = 200 * time.Millisecond
	maxPause   = time.Second
)

// once runs fn with its own deadline and types its error.
func (s *Store) once(ctx context.Context, fn func(ctx context.Context) error) error {
	actx, cancel := context.WithTimeoutCause(ctx, s.timeout, errTimeout)
	defer cancel()
	return typed(ctx, fn(actx))
}

// try repeats fn after transient faults. fn must be safe to repeat.
func (s *Store) try(ctx context.Context, op string, fn func(ctx context.Context) error) error {
	for n := 1; ; n++ {
		err := s.once(ctx, fn)
		if err == nil || !transient(err) || !s.again(ctx, op, n, err) {
			return err
		}
	}
}

// again waits before try n+1. It reports whether there is one.
func (s *Store) again(ctx context.Context, op string, n int, err error) bool {
	if n >= s.attempts || ctx.Err() != nil {
		return false
	}
	s.log.DebugContext(ctx, "s3: retrying", "op", op, "attempt", n, "error", err)
	t := time.NewTimer(rand.N(min(firstPause<<(n-1), maxPause)))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
