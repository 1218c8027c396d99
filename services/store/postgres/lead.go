package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/openova-io/bp-relay/services/store"
	"github.com/openova-io/bp-relay/services/store/internal/group"
	"github.com/openova-io/bp-relay/services/store/internal/rows"
)

// maxReruns bounds how often a function is run again because another
// transaction remembered the answer first.
const maxReruns = 3

// member is one caller with the result of its function.
type member struct {
	*group.Member[lent]
	err error
}

// lead runs one group, and where it fails as a whole its members one by one.
func (s *Store) lead(first *group.Member[lent], more func() *group.Member[lent]) {
	ran, err := s.together(first, more)
	if err == nil || errors.Is(err, errOutcome) || len(ran) == 1 && !repeatable(err) {
		for _, m := range ran {
			m.Answer(result(m.err, err))
		}
		return
	}
	for _, m := range ran {
		m.Answer(s.alone(m.Member))
	}
}

// alone runs a member in a transaction of its own until it is through.
func (s *Store) alone(m *group.Member[lent]) error {
	for try := 1; ; try++ {
		ran, err := s.together(m, func() *group.Member[lent] { return nil })
		if err == nil || !repeatable(err) || errors.Is(err, errOutcome) || try == maxTries {
			return result(ran[0].err, err)
		}
		if err := pause(context.Background(), try); err != nil {
			return err
		}
	}
}

// result is what a caller gets: its function's error, unless that came from
// a transaction that failed under it.
func result(own, group error) error {
	if own != nil && !repeatable(group) {
		return own
	}
	return group
}

// together runs members one after the other in one transaction and commits
// it. The error is the transaction's; without errOutcome nothing was written.
func (s *Store) together(first *group.Member[lent], more func() *group.Member[lent]) ([]member, error) {
	ran := []member{{Member: first}}
	// The group has no caller: it ends with its commit, or when the server does
	// not answer.
	ctx, cancel := context.WithTimeout(context.Background(), groupTimeout)
	defer cancel()
	c, err := s.acquire(ctx)
	if err != nil {
		return ran, err
	}
	defer c.Release()
	db := &session{conn: c.Conn(), ctx: ctx, queued: []string{begin}}
	defer db.rollback(context.Background())
	var kept []*rows.Tx
	size := 0 // of what is kept for the end of the group
	for m := first; m != nil; m = more() {
		if m != first {
			ran = append(ran, member{Member: m})
		}
		tx, own, err := s.one(m, db)
		ran[len(ran)-1].err = own
		if err != nil {
			return ran, err
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
		return ran, err
	}
	return ran, db.commit()
}

// one runs a member behind its savepoint: own is its function's error, err
// the transaction's. When another connection remembered the answer first, the
// function is run again: at READ COMMITTED its Replay now finds that answer.
func (s *Store) one(m *group.Member[lent], db *session) (tx *rows.Tx, own, err error) {
	for rerun := 0; ; rerun++ {
		tx = rows.NewTx(db, s.now)
		own = m.Run(lent{tx, db})
		lost := tx.End()
		switch {
		case db.fatal != nil:
			return tx, own, db.fatal
		case own == nil && !lost:
			db.keep()
			return tx, nil, nil
		}
		if err := db.undo(); err != nil {
			return tx, own, err
		}
		if !lost || rerun == maxReruns {
			if own == nil {
				own = fmt.Errorf("%w: an answer is remembered already", store.ErrExists)
			}
			return tx, own, nil
		}
	}
}
