package postgres

import (
	"context"

	"github.com/openova-io/bp-relay/services/store/internal/rows"
)

// Clean is what the janitor does every ten minutes.
func Clean(ctx context.Context, s *Store) error { return rows.Clean(ctx, engine{s}, s.now) }
