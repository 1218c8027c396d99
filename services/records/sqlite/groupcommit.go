package sqlite

import (
	"context"
	"errors"
	"fmt"

	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/internal/groupcommit"
	"github.com/openova-io/bp-relay/services/records/internal/rows"
)

// errOutcome: COMMIT itself failed. The group must not be repeated, since it may
// have been committed.
var errOutcome = errors.New("sqlite: commit failed: the write may or may not have happened")

// outcome is one update with the result of its function.
type outcome struct {
	*groupcommit.Update[handle]
	err error
}

// commitGroup runs and commits one group. If the group fails before its COMMIT,
// each update is run again in a transaction of its own.
func (s *DB) commitGroup(first *groupcommit.Update[handle], next func() *groupcommit.Update[handle]) {
	ran, err := s.runGroup(first, next)
	if err == nil || len(ran) == 1 || errors.Is(err, errOutcome) {
		for _, o := range ran {
			o.Answer(result(o.err, err))
		}
		return
	}
	for _, o := range ran {
		again, err := s.runGroup(o.Update, none)
		o.Answer(result(again[0].err, err))
	}
}

// none supplies no further update: a group of one.
func none() *groupcommit.Update[handle] { return nil }

// result is what a caller gets: its function's error if there is one, else the
// group's.
func result(own, group error) error {
	if own != nil {
		return own
	}
	return group
}

// runGroup runs updates one after the other in one transaction and commits it.
// The error is the transaction's; unless it is errOutcome, nothing was written.
func (s *DB) runGroup(first *groupcommit.Update[handle], next func() *groupcommit.Update[handle]) ([]outcome, error) {
	ctx := context.Background() // a group outlives each of its callers
	ran := []outcome{{Update: first}}
	if _, err := s.writer.exec(ctx, "BEGIN IMMEDIATE"); err != nil {
		return ran, fmt.Errorf("sqlite: begin: %w", err)
	}
	db := &session{conn: s.writer, ctx: ctx}
	var kept []*rows.Tx
	size := 0 // bytes of events and leaves kept for the end of the group
	for u := first; u != nil; u = next() {
		if u != first {
			ran = append(ran, outcome{Update: u})
		}
		tx, own, err := s.runUpdate(u, db)
		ran[len(ran)-1].err = own
		if err != nil {
			return ran, errors.Join(err, s.rollback(ctx))
		}
		if own == nil {
			kept = append(kept, tx)
			size += tx.Size()
		}
		if size >= rows.MaxFlush {
			break
		}
	}
	if err := rows.Flush(ctx, db, kept...); err != nil {
		return ran, errors.Join(err, s.rollback(ctx))
	}
	if _, err := s.writer.exec(ctx, "COMMIT"); err != nil {
		return ran, errors.Join(errOutcome, err, s.rollback(ctx))
	}
	return ran, nil
}

// runUpdate runs one update behind its own savepoint. own is its function's
// error, err the transaction's.
func (s *DB) runUpdate(u *groupcommit.Update[handle], db *session) (tx *rows.Tx, own, err error) {
	tx = rows.NewTx(db, s.now)
	own = u.Run(handle{tx, db})
	if lost := tx.Close(); lost && own == nil {
		own = fmt.Errorf("%w: an answer is already remembered", records.ErrExists)
	}
	if own != nil {
		err = db.undo()
	} else {
		err = db.keep()
	}
	db.saved = false
	return tx, own, err
}

// rollback ends a failed transaction, which SQLite may have rolled back itself.
func (s *DB) rollback(ctx context.Context) error {
	_, err := s.writer.exec(ctx, "ROLLBACK")
	if err != nil && !inTransaction(ctx, s.writer) {
		return nil
	}
	return err
}

// inTransaction reports whether c is in a transaction, by trying to begin one.
func inTransaction(ctx context.Context, c *conn) bool {
	if _, err := c.exec(ctx, "BEGIN"); err != nil {
		return true
	}
	_, err := c.exec(ctx, "ROLLBACK")
	return err != nil
}
