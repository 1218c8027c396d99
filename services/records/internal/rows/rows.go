// Package rows is what the two engines share: the statements on records,
// requests, leaves and events, in the SQL that SQLite and PostgreSQL have in
// common, and the limits of their arguments. An engine supplies a DB for each
// transaction that it opens, and is responsible for grouping, savepoints,
// retries and commits.
package rows

import (
	"context"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/openova-io/bp-relay/services/records"
)

// Row is one row of an answer.
type Row interface {
	Scan(dest ...any) error
}

// DB is an open transaction. Placeholders are $1, $2, ... in both engines.
type DB interface {
	// Exec returns the number of affected rows.
	Exec(ctx context.Context, query string, args ...any) (int64, error)
	// Query calls scan for each row. It stops at scan's first error and returns
	// it.
	Query(ctx context.Context, scan func(Row) error, query string, args ...any) error
	// Time encodes a time in UTC with microseconds; TimeDest returns the
	// destination to scan one into.
	Time(t time.Time) any
	TimeDest(t *time.Time) any
	// Locking returns what a SELECT ends with to hold its rows until the end of the
	// transaction, for this transaction only or shared with others; "" if the
	// engine has one writer at a time anyway.
	Locking(shared bool) string

	// AddLeaves and AddEvents insert in order. They or the commit return
	// records.ErrExists if an id exists.
	AddLeaves(ctx context.Context, leaves []records.Leaf) error
	AddEvents(ctx context.Context, events []records.Event) error
	// AddHashes inserts hashes under the storage indexes first, first+1, ...
	AddHashes(ctx context.Context, first int64, hashes []tlog.Hash) error
	// NumberLeaves assigns the index first+i to positions[i], NumberEvents the
	// sequence number seqs[i]. Both return how many unnumbered rows they changed.
	NumberLeaves(ctx context.Context, positions []int64, first int64) (int64, error)
	NumberEvents(ctx context.Context, positions, seqs []int64) (int64, error)
}

// clip converts a time to the stored precision.
func clip(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
