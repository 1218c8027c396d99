package rows

import (
	"context"
	"log/slog"
	"time"
)

// Engine is what an engine's Store offers the shared parts.
type Engine interface {
	// Read runs fn over one snapshot.
	Read(ctx context.Context, fn func(db DB) error) error
	// Write runs fn in a transaction and returns once it is durable. fn may
	// run more than once.
	Write(ctx context.Context, fn func(db DB) error) error
}

const (
	cleanEvery = 10 * time.Minute
	cleanRows  = 1000
)

// Janitor forgets expired answers now and then, until ctx ends.
func Janitor(ctx context.Context, e Engine, now func() time.Time, logger *slog.Logger) {
	tick := time.NewTicker(cleanEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := Clean(ctx, e, now); err != nil && ctx.Err() == nil {
				logger.Warn("store: forgetting old answers failed; it is tried again", "error", err, "in", cleanEvery)
			}
		}
	}
}

// Clean forgets all expired answers, a batch to a transaction.
func Clean(ctx context.Context, e Engine, now func() time.Time) error {
	for {
		var n int64
		err := e.Write(ctx, func(db DB) (err error) {
			n, err = Forget(ctx, db, now(), cleanRows)
			return err
		})
		if err != nil || n < cleanRows {
			return err
		}
	}
}
