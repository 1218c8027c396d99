package sqlite

import (
	"context"

	"github.com/openova-io/bp-relay/services/records/internal/rows"
)

// Clean is what the janitor does every ten minutes.
func Clean(ctx context.Context, s *DB) error { return rows.Clean(ctx, engine{s}, s.now) }

// Settings reads the settings of the writer's connection.
func Settings(ctx context.Context, s *DB) (journal string, synchronous int64, err error) {
	err = engine{s}.Write(ctx, func(db rows.DB) error {
		err := db.Query(ctx, func(r rows.Row) error { return r.Scan(&journal) }, "PRAGMA journal_mode")
		if err != nil {
			return err
		}
		return db.Query(ctx, func(r rows.Row) error { return r.Scan(&synchronous) }, "PRAGMA synchronous")
	})
	return journal, synchronous, err
}
