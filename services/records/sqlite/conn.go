package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/openova-io/bp-relay/services/records/internal/rows"
)

// maxStatements bounds the prepared statements of a connection. Their texts are
// a small closed set; only List's vary, with the number of states.
const maxStatements = 128

// dsn is the driver's address of a file.
// https://www.sqlite.org/pragma.html#pragma_synchronous: FULL "syncs the WAL
// after each transaction commit".
func dsn(path string) string {
	q := url.Values{"_pragma": {
		fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()),
		"journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)",
	}}
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + q.Encode()
}

// conn is one connection with its prepared statements. It is used by one
// goroutine at a time.
type conn struct {
	c     *sql.Conn
	stmts map[string]*sql.Stmt
}

func dial(ctx context.Context, db *sql.DB) (*conn, error) {
	c, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	return &conn{c: c, stmts: map[string]*sql.Stmt{}}, nil
}

func (c *conn) prepare(ctx context.Context, query string) (*sql.Stmt, error) {
	if s := c.stmts[query]; s != nil {
		return s, nil
	}
	if len(c.stmts) >= maxStatements {
		if err := c.forget(); err != nil {
			return nil, err
		}
	}
	s, err := c.c.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	c.stmts[query] = s
	return s, nil
}

func (c *conn) forget() error {
	var errs []error
	for _, s := range c.stmts {
		errs = append(errs, s.Close())
	}
	clear(c.stmts)
	return errors.Join(errs...)
}

func (c *conn) exec(ctx context.Context, query string, args ...any) (int64, error) {
	s, err := c.prepare(ctx, query) //nolint:sqlclosecheck // kept for the next time, closed by forget
	if err != nil {
		return 0, err
	}
	res, err := s.ExecContext(ctx, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

func (c *conn) query(ctx context.Context, scan func(rows.Row) error, query string, args ...any) (err error) {
	s, err := c.prepare(ctx, query) //nolint:sqlclosecheck // kept for the next time, closed by forget
	if err != nil {
		return err
	}
	found, err := s.QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, found.Close()) }()
	for found.Next() {
		if err := scan(found); err != nil {
			return err
		}
	}
	return found.Err()
}

func (c *conn) close() error { return errors.Join(c.forget(), c.c.Close()) }

// micros is a time in its column.
type micros time.Time

// Scan implements sql.Scanner.
func (m *micros) Scan(src any) error {
	n, ok := src.(int64)
	if !ok {
		return fmt.Errorf("sqlite: a time is %T", src)
	}
	*m = micros(time.UnixMicro(n).UTC())
	return nil
}

// codec is how columns are encoded.
type codec struct{}

func (codec) Time(t time.Time) any      { return t.UnixMicro() }
func (codec) TimeDest(t *time.Time) any { return (*micros)(t) }

// Locking implements rows.DB: a transaction that writes is the only one.
func (codec) Locking(bool) string { return "" }
