package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/internal/rows"
)

const begin = "BEGIN ISOLATION LEVEL READ COMMITTED"

// errReadOnly: a bulk statement in a snapshot.
var errReadOnly = errors.New("postgres: write in a snapshot")

// statement is a statement that was not sent yet.
type statement struct {
	query string
	args  []any
}

// session is an open transaction, a group's or a snapshot's. Statements whose
// answers are not needed at once (BEGIN, SAVEPOINT, RELEASE, the leaves and
// events) are sent with the next statement whose answer is: one round trip.
type session struct {
	conn *pgx.Conn
	// ctx is the group's; if nil, each call uses its own.
	ctx      context.Context //nolint:containedctx // a session lives as long as its one transaction, and the callers' contexts must not reach the connection
	readOnly bool
	bare     bool // one function only: no savepoints

	queued []string    // sent before the next statement
	tail   []statement // sent before COMMIT
	sent   bool        // the server knows of the transaction
	saved  bool        // the update's savepoint is open
	brief  bool        // statements do not wait for rows of other transactions
	busy   bool        // a statement of this update met such a row
	fatal  error       // the transaction cannot continue
}

var _ rows.DB = (*session)(nil)

// Time and TimeDest implement rows.DB: timestamptz has microseconds.
func (*session) Time(t time.Time) any      { return t }
func (*session) TimeDest(t *time.Time) any { return t }

// Locking implements rows.DB. FOR SHARE conflicts with every UPDATE and DELETE of
// the row, and not with itself; FOR NO KEY UPDATE conflicts with both.
// https://www.postgresql.org/docs/15/explicit-locking.html#LOCKING-ROWS
func (*session) Locking(shared bool) string {
	if shared {
		return " FOR SHARE"
	}
	return " FOR NO KEY UPDATE"
}

// keep releases the update's savepoint, undo rolls back to it.
func (s *session) keep() {
	if s.saved {
		s.queued = append(s.queued, "RELEASE one_update")
	}
	s.saved = false
}

func (s *session) undo() error {
	if !s.saved {
		return nil
	}
	s.saved = false
	_, err := s.conn.Exec(s.ctx, "ROLLBACK TO one_update; RELEASE one_update")
	return s.note(err)
}

// waitBriefly makes all further statements fail, instead of waiting, on a row that
// another transaction holds. https://www.postgresql.org/docs/15/runtime-config-client.html#GUC-LOCK-TIMEOUT
func (s *session) waitBriefly() {
	if !s.brief {
		s.queued = append(s.queued, "SET LOCAL lock_timeout = '1ms'")
		s.brief = true
	}
}

// run sends the queued statements and this one, and passes its answer to read.
func (s *session) run(ctx context.Context, query string, args []any, read func(pgx.BatchResults) error) error {
	if s.fatal != nil {
		return s.fatal
	}
	if s.ctx != nil { // the end of one caller's ctx must not break the connection
		ctx = s.ctx
	}
	if !s.saved && !s.bare && !s.readOnly {
		s.queued = append(s.queued, "SAVEPOINT one_update")
		s.saved = true
	}
	b := &pgx.Batch{}
	for _, q := range s.queued {
		b.Queue(q)
	}
	b.Queue(query, args...)
	before := len(s.queued)
	s.queued, s.sent = nil, true
	results := s.conn.SendBatch(ctx, b)
	err := func() error {
		for range before {
			if _, err := results.Exec(); err != nil {
				return err
			}
		}
		return read(results)
	}()
	if end := results.Close(); err == nil {
		err = end
	}
	return s.note(err)
}

// note remembers an error after which the transaction cannot continue.
func (s *session) note(err error) error {
	if err != nil && s.fatal == nil && (conflicting(err) || s.conn.IsClosed()) {
		s.fatal = &lostError{err}
	}
	if s.brief && locked(err) {
		s.busy = true
	}
	return err
}

// failure is the error of a function that ran in the session: why the
// transaction cannot continue, if that is so, and otherwise its own.
func (s *session) failure(own error) error {
	if own != nil && s.fatal != nil {
		return s.fatal
	}
	return own
}

// Exec implements rows.DB.
func (s *session) Exec(ctx context.Context, query string, args ...any) (n int64, err error) {
	err = s.run(ctx, query, args, func(r pgx.BatchResults) error {
		tag, err := r.Exec()
		n = tag.RowsAffected()
		return err
	})
	return n, err
}

// Query implements rows.DB.
func (s *session) Query(ctx context.Context, scan func(rows.Row) error, query string, args ...any) error {
	return s.run(ctx, query, args, func(r pgx.BatchResults) error {
		found, err := r.Query()
		if err != nil {
			return err
		}
		defer found.Close()
		for found.Next() {
			if err := scan(found); err != nil {
				return err
			}
		}
		return found.Err()
	})
}

// AddLeaves implements rows.DB; the rows are sent with COMMIT.
func (s *session) AddLeaves(_ context.Context, leaves []records.Leaf) error {
	if s.readOnly {
		return errReadOnly
	}
	n := len(leaves)
	ids, orgs, subjects := make([]string, n), make([]string, n), make([]string, n)
	times, bodies, openings := make([]time.Time, n), make([][]byte, n), make([][]byte, n)
	for i, l := range leaves {
		ids[i], orgs[i], subjects[i] = l.ID, l.Org, l.Subject
		times[i], bodies[i], openings[i] = l.Time, l.Body, l.Opening
	}
	s.tail = append(s.tail, statement{"INSERT INTO leaves (id, org, subject, time, body, opening)" +
		" SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::bytea[], $6::bytea[])",
		[]any{ids, orgs, subjects, times, bodies, openings}})
	return nil
}

// AddEvents implements rows.DB; the rows are sent with COMMIT.
func (s *session) AddEvents(_ context.Context, events []records.Event) error {
	if s.readOnly {
		return errReadOnly
	}
	n := len(events)
	ids, orgs, types, subjects := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	times, bodies := make([]time.Time, n), make([]string, n)
	for i, e := range events {
		ids[i], orgs[i], types[i], subjects[i] = e.ID, e.Org, e.Type, e.Subject
		times[i], bodies[i] = e.Time, string(e.Body)
	}
	s.tail = append(s.tail, statement{"INSERT INTO events (id, org, type, subject, time, body)" +
		" SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::json[])",
		[]any{ids, orgs, types, subjects, times, bodies}})
	return nil
}

// AddHashes implements rows.DB.
func (s *session) AddHashes(ctx context.Context, first int64, hashes []tlog.Hash) error {
	all := make([][]byte, len(hashes))
	for i := range hashes {
		all[i] = hashes[i][:]
	}
	_, err := s.Exec(ctx, "INSERT INTO hashes (idx, hash)"+
		" SELECT $1::bigint + n - 1, hash FROM unnest($2::bytea[]) WITH ORDINALITY AS h (hash, n)", first, all)
	return err
}

// NumberLeaves implements rows.DB.
func (s *session) NumberLeaves(ctx context.Context, positions []int64, first int64) (int64, error) {
	return s.Exec(ctx, "UPDATE leaves SET idx = $1::bigint + h.n - 1"+
		" FROM unnest($2::bigint[]) WITH ORDINALITY AS h (pos, n)"+
		" WHERE leaves.pos = h.pos AND leaves.idx IS NULL", first, positions)
}

// NumberEvents implements rows.DB.
func (s *session) NumberEvents(ctx context.Context, positions, seqs []int64) (int64, error) {
	return s.Exec(ctx, "UPDATE events SET seq = h.seq FROM unnest($1::bigint[], $2::bigint[]) AS h (pos, seq)"+
		" WHERE events.pos = h.pos AND events.seq IS NULL", positions, seqs)
}

// commit sends what was not sent yet, and COMMIT. It returns errOutcome if the
// transaction may or may not have been committed.
func (s *session) commit() error {
	if s.fatal != nil {
		return s.fatal
	}
	if !s.sent && len(s.tail) == 0 {
		return nil
	}
	b := &pgx.Batch{}
	for _, q := range s.queued {
		b.Queue(q)
	}
	if s.brief { // what follows takes no rows that others hold, but may wait for the table's file to grow
		b.Queue("SET LOCAL lock_timeout TO DEFAULT")
	}
	for _, st := range s.tail {
		b.Queue(st.query, st.args...)
	}
	b.Queue("COMMIT")
	s.sent, s.queued = true, nil
	results := s.conn.SendBatch(s.ctx, b)
	var tag pgconn.CommandTag
	var err error
	answered := 0
	for ; answered < b.Len() && err == nil; answered++ {
		tag, err = results.Exec()
	}
	if end := results.Close(); err == nil {
		err = end
	}
	switch {
	case err == nil && tag.String() == "COMMIT":
		s.sent = false // nothing to roll back
		return nil
	case err == nil: // "ROLLBACK": a failed transaction cannot commit
		s.sent = false
		return fmt.Errorf("postgres: commit: the server answered %s", tag)
	case unsure(err, answered == b.Len()):
		s.fatal = errors.Join(errOutcome, err)
		return s.fatal
	}
	if err = s.note(err); s.fatal != nil {
		return s.fatal
	}
	return duplicate(err)
}

// rollback ends a transaction that was not committed.
func (s *session) rollback(ctx context.Context) {
	if !s.sent || s.conn.IsClosed() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, groupTimeout)
	defer cancel()
	s.sent = false
	if _, err := s.conn.Exec(ctx, "ROLLBACK"); err != nil {
		s.conn.Close(ctx) //nolint:errcheck // the connection is unusable
	}
}
