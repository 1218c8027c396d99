// Package rows holds what the two engines share: the statements on records,
// requests, leaves and events, written once in the SQL that SQLite and
// PostgreSQL have in common, and the limits they enforce. An engine supplies
// a DB for a transaction that it has opened, and decides about grouping,
// savepoints, retries and commits.
package rows

import (
	"context"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/openova-io/bp-relay/services/store"
)

// Row is one row of an answer.
type Row interface {
	Scan(dest ...any) error
}

// DB is an open transaction. Placeholders are $1, $2, ... in both engines.
type DB interface {
	// Exec returns how many rows were affected.
	Exec(ctx context.Context, query string, args ...any) (int64, error)
	// Query calls scan for each row; an error of scan ends it.
	Query(ctx context.Context, scan func(Row) error, query string, args ...any) error
	// Time encodes a time that is UTC with microseconds; TimeDest is what to
	// scan one into.
	Time(t time.Time) any
	TimeDest(t *time.Time) any

	// AddLeaves and AddEvents insert in order; an id that is there already is
	// store.ErrExists.
	AddLeaves(ctx context.Context, leaves []store.Leaf) error
	AddEvents(ctx context.Context, events []store.Event) error
	// AddHashes inserts hashes under the storage indexes first, first+1, ...
	AddHashes(ctx context.Context, first int64, hashes []tlog.Hash) error
	// NumberLeaves gives positions[i] the index first+i; NumberEvents gives
	// positions[i] the sequence seqs[i]. Both return how many unnumbered rows
	// they changed.
	NumberLeaves(ctx context.Context, positions []int64, first int64) (int64, error)
	NumberEvents(ctx context.Context, positions, seqs []int64) (int64, error)
}

// clip brings a time to what is stored.
func clip(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
