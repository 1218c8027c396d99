package postgres

import (
	"context"

	"github.com/openova-io/bp-relay/services/records/internal/rows"
)

// Clean is what the janitor does every ten minutes.
func Clean(ctx context.Context, s *DB) error { return rows.Clean(ctx, engine{s}, s.now) }
