package sqlite

import (
	"context"
	"errors"
	"fmt"

	"github.com/openova-io/bp-relay/services/store"
	"github.com/openova-io/bp-relay/services/store/internal/group"
	"github.com/openova-io/bp-relay/services/store/internal/rows"
)

// errOutcome: COMMIT itself failed, so that nobody may repeat the group.
var errOutcome = errors.New("store/sqlite: commit failed: the write may or may not be there")

// member is one caller with the result of its function.
type member struct {
	*group.Member[lent]
	err error
}

// lead runs one group. Where a group fails before its commit because of one
// member, each is run again in a transaction of its own.
func (s *Store) lead(first *group.Member[lent], more func() *group.Member[lent]) {
	ran, err := s.together(first, more)
	if err == nil || len(ran) == 1 || errors.Is(err, errOutcome) {
		for _, m := range ran {
			m.Answer(result(m.err, err))
		}
		return
	}
	for _, m := range ran {
		one, err := s.together(m.Member, func() *group.Member[lent] { return nil })
		m.Answer(result(one[0].err, err))
	}
}

// result is what a caller gets: its function's error, else the group's.
func result(own, group error) error {
	if own != nil {
		return own
	}
	return group
}

// together runs members one after the other in one transaction and commits
// it. The error is the transaction's; without errOutcome nothing was written.
func (s *Store) together(first *group.Member[lent], more func() *group.Member[lent]) ([]member, error) {
	ctx := context.Background() // the group has no caller: it ends with its commit
	ran := []member{{Member: first}}
	if _, err := s.writer.exec(ctx, "BEGIN IMMEDIATE"); err != nil {
		return ran, fmt.Errorf("store/sqlite: begin: %w", err)
	}
	db := &session{conn: s.writer, ctx: ctx}
	var kept []*rows.Tx
	size := 0 // of what is kept for the end of the group
	for m := first; m != nil; m = more() {
		if m != first {
			ran = append(ran, member{Member: m})
		}
		tx, own, err := s.one(m, db)
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

// one runs a member behind its savepoint: own is its function's error, err
// the transaction's.
func (s *Store) one(m *group.Member[lent], db *session) (tx *rows.Tx, own, err error) {
	tx = rows.NewTx(db, s.now)
	own = m.Run(lent{tx, db})
	if lost := tx.End(); lost && own == nil {
		own = fmt.Errorf("%w: an answer is remembered already", store.ErrExists)
	}
	if own != nil {
		err = db.undo()
	} else {
		err = db.keep()
	}
	db.saved = false
	return tx, own, err
}

// rollback ends a failed transaction; SQLite may have done so by itself.
func (s *Store) rollback(ctx context.Context) error {
	_, err := s.writer.exec(ctx, "ROLLBACK")
	if err != nil && !inTransaction(ctx, s.writer) {
		return nil
	}
	return err
}

// inTransaction asks by trying to begin one.
func inTransaction(ctx context.Context, c *conn) bool {
	if _, err := c.exec(ctx, "BEGIN"); err != nil {
		return true
	}
	_, err := c.exec(ctx, "ROLLBACK")
	return err != nil
}
