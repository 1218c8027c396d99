package sqlite

import (
	"context"
	"errors"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/internal/rows"
)

// chunk is the number of rows of one insert statement.
const chunk = 16

// errReadOnly: a bulk statement in a snapshot.
var errReadOnly = errors.New("sqlite: write in a snapshot")

// view is a snapshot. Its statements run with the caller's ctx.
type view struct {
	codec
	*conn
}

func (v view) Exec(ctx context.Context, query string, args ...any) (int64, error) {
	return 0, errReadOnly
}
func (v view) Query(ctx context.Context, scan func(rows.Row) error, query string, args ...any) error {
	return v.query(ctx, scan, query, args...)
}
func (view) AddLeaves(context.Context, []records.Leaf) error               { return errReadOnly }
func (view) AddEvents(context.Context, []records.Event) error              { return errReadOnly }
func (view) AddHashes(context.Context, int64, []tlog.Hash) error           { return errReadOnly }
func (view) NumberLeaves(context.Context, []int64, int64) (int64, error)   { return 0, errReadOnly }
func (view) NumberEvents(context.Context, []int64, []int64) (int64, error) { return 0, errReadOnly }

// session is a group's transaction. Its statements do not use the caller's ctx:
// SQLite rolls the whole transaction back if a statement in it is interrupted.
type session struct {
	codec
	conn *conn
	// ctx is the group's.
	ctx   context.Context //nolint:containedctx // a session lives as long as its one transaction, and the callers' contexts must not reach the connection
	saved bool            // the update's savepoint is open
}

var _ rows.DB = (*session)(nil)

// save opens the update's savepoint before its first statement. Updates that
// only add leaves and events need none.
func (s *session) save() error {
	if s.saved {
		return nil
	}
	_, err := s.conn.exec(s.ctx, "SAVEPOINT one_update")
	s.saved = err == nil
	return err
}

// keep releases the update's savepoint, undo rolls back to it.
func (s *session) keep() error {
	if !s.saved {
		return nil
	}
	s.saved = false
	_, err := s.conn.exec(s.ctx, "RELEASE one_update")
	return err
}

func (s *session) undo() error {
	if !s.saved {
		return nil
	}
	if _, err := s.conn.exec(s.ctx, "ROLLBACK TO one_update"); err != nil {
		return err
	}
	return s.keep()
}

func (s *session) Exec(_ context.Context, query string, args ...any) (int64, error) {
	if err := s.save(); err != nil {
		return 0, err
	}
	return s.conn.exec(s.ctx, query, args...)
}

func (s *session) Query(_ context.Context, scan func(rows.Row) error, query string, args ...any) error {
	if err := s.save(); err != nil {
		return err
	}
	return s.conn.query(s.ctx, scan, query, args...)
}

// insert inserts n rows of the given columns, chunk rows per statement. It uses
// "?" as placeholder: the driver looks "$1" up in a list, which is slow for
// many.
func (s *session) insert(table string, columns []string, n int, row func(i int) []any) error {
	head := "INSERT INTO " + table + " (" + strings.Join(columns, ", ") + ") VALUES "
	one := "(?" + strings.Repeat(", ?", len(columns)-1) + ")"
	many := head + one + strings.Repeat(", "+one, chunk-1)
	for i := 0; i < n; {
		query, take := head+one, 1
		if n-i >= chunk {
			query, take = many, chunk
		}
		args := make([]any, 0, take*len(columns))
		for ; take > 0; take-- {
			args = append(args, row(i)...)
			i++
		}
		if _, err := s.conn.exec(s.ctx, query, args...); err != nil {
			return duplicate(err)
		}
	}
	return nil
}

// duplicate adds records.ErrExists to the violation of a unique index.
func duplicate(err error) error {
	if e := new(sqlite.Error); errors.As(err, &e) && e.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE {
		return errors.Join(records.ErrExists, err)
	}
	return err
}

// AddLeaves implements rows.DB.
func (s *session) AddLeaves(_ context.Context, leaves []records.Leaf) error {
	return s.insert("leaves", []string{"id", "org", "subject", "time", "body", "opening"}, len(leaves), func(i int) []any {
		l := leaves[i]
		return []any{l.ID, l.Org, l.Subject, s.Time(l.Time), l.Body, l.Opening}
	})
}

// AddEvents implements rows.DB.
func (s *session) AddEvents(_ context.Context, events []records.Event) error {
	return s.insert("events", []string{"id", "org", "type", "subject", "time", "body"}, len(events), func(i int) []any {
		e := events[i]
		return []any{e.ID, e.Org, e.Type, e.Subject, s.Time(e.Time), string(e.Body)}
	})
}

// AddHashes implements rows.DB.
func (s *session) AddHashes(_ context.Context, first int64, hashes []tlog.Hash) error {
	if err := s.save(); err != nil {
		return err
	}
	return s.insert("hashes", []string{"idx", "hash"}, len(hashes), func(i int) []any {
		return []any{first + int64(i), hashes[i][:]}
	})
}

// NumberLeaves implements rows.DB.
func (s *session) NumberLeaves(ctx context.Context, positions []int64, first int64) (int64, error) {
	var changed int64
	for i, pos := range positions {
		n, err := s.Exec(ctx, "UPDATE leaves SET idx = ? WHERE pos = ? AND idx IS NULL", first+int64(i), pos)
		if err != nil {
			return 0, err
		}
		changed += n
	}
	return changed, nil
}

// NumberEvents implements rows.DB.
func (s *session) NumberEvents(ctx context.Context, positions, seqs []int64) (int64, error) {
	var changed int64
	for i, pos := range positions {
		n, err := s.Exec(ctx, "UPDATE events SET seq = ? WHERE pos = ? AND seq IS NULL", seqs[i], pos)
		if err != nil {
			return 0, err
		}
		changed += n
	}
	return changed, nil
}
