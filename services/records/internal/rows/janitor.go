package rows

import (
	"context"
	"log/slog"
	"time"
)

// Engine is what this package needs of an engine's DB.
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

// Janitor deletes expired answers every 10 minutes until ctx ends.
func Janitor(ctx context.Context, e Engine, now func() time.Time, logger *slog.Logger) {
	tick := time.NewTicker(cleanEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := Clean(ctx, e, now); err != nil && ctx.Err() == nil {
				logger.WarnContext(ctx, "records: deleting expired answers failed; it will be retried", "error", err, "retry_in", cleanEvery)
			}
		}
	}
}

// Clean deletes all expired answers, one batch per transaction.
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
