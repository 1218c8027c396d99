package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/internal/groupcommit"
	"github.com/openova-io/bp-relay/services/records/internal/rows"
)

// maxReruns bounds how often a function is run again because another
// transaction remembered the answer first.
const maxReruns = 3

// outcome is one update with the result of its function.
type outcome struct {
	*groupcommit.Update[handle]
	err error
}

// errSetAside is the outcome of an update that met a row which another
// transaction holds. Nothing of it was written.
var errSetAside = errors.New("postgres: update set aside: another transaction holds its row")

// commitGroup runs and commits one group, and then what was set aside, until
// nothing is. Only the first update of a transaction waits for a row that
// another transaction holds, because only it holds no rows itself: groups that
// touch the same rows in different orders cannot deadlock. Each round commits at
// least its first update.
func (s *DB) commitGroup(first *groupcommit.Update[handle], next func() *groupcommit.Update[handle]) {
	var aside []*groupcommit.Update[handle]
	fromAside := func() *groupcommit.Update[handle] {
		if len(aside) == 0 {
			return nil
		}
		u := aside[0]
		aside = aside[1:]
		return u
	}
	for ; first != nil; first, next = fromAside(), fromAside {
		again := s.commitOnce(first, next) // which may leave some of aside
		aside = append(aside, again...)
	}
}

// commitOnce runs one group and answers its updates, but for those that were set
// aside, which it returns. If the group fails as a whole, each update is run
// again in a transaction of its own.
func (s *DB) commitOnce(first *groupcommit.Update[handle], next func() *groupcommit.Update[handle]) (aside []*groupcommit.Update[handle]) {
	ran, err := s.runGroup(first, next)
	separately := err != nil && !errors.Is(err, errOutcome) && (len(ran) > 1 || repeatable(err))
	for _, o := range ran {
		switch {
		case separately:
			o.Answer(s.commitSeparately(o.Update))
		case errors.Is(o.err, errSetAside):
			aside = append(aside, o.Update)
		default:
			o.Answer(result(o.err, err))
		}
	}
	return aside
}

// commitSeparately runs one update in a transaction of its own. It repeats a
// transaction that the server rolled back, at most maxTries times in all.
func (s *DB) commitSeparately(u *groupcommit.Update[handle]) error {
	for try := 1; ; try++ {
		ran, err := s.runGroup(u, none)
		if err == nil || !repeatable(err) || errors.Is(err, errOutcome) || try == maxTries {
			return result(ran[0].err, err)
		}
		if err := pause(context.Background(), try); err != nil {
			return err
		}
	}
}

// none supplies no further update: a group of one.
func none() *groupcommit.Update[handle] { return nil }

// result is what a caller gets: its function's error, unless the transaction
// was lost under the function.
func result(own, group error) error {
	if lost := new(lostError); own != nil && !errors.As(group, &lost) {
		return own
	}
	return group
}

// runGroup runs updates one after the other in one transaction and commits it.
// The error is the transaction's; unless it is errOutcome, nothing was written.
func (s *DB) runGroup(first *groupcommit.Update[handle], next func() *groupcommit.Update[handle]) ([]outcome, error) {
	ran := []outcome{{Update: first}}
	// A group outlives each of its callers; only a server that does not answer
	// ends it early.
	ctx, cancel := context.WithTimeout(context.Background(), groupTimeout)
	defer cancel()
	c, err := s.acquire(ctx)
	switch {
	case err != nil && ctx.Err() != nil: // the group's time, not a caller's
		return ran, fmt.Errorf("%w: postgres: no connection within %s", records.ErrUnavailable, groupTimeout)
	case err != nil:
		return ran, err
	}
	defer c.Release()
	db := &session{conn: c.Conn(), ctx: ctx, queued: []string{begin}}
	defer db.rollback(context.Background())
	var kept []*rows.Tx
	size := 0 // bytes of events and leaves kept for the end of the group
	for u := first; u != nil; u = next() {
		if u != first {
			ran = append(ran, outcome{Update: u})
			db.waitBriefly()
		}
		tx, own, err := s.runUpdate(u, db)
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
		return ran, db.failure(err)
	}
	return ran, db.commit()
}

// runUpdate runs one update behind its own savepoint. own is its function's
// error, err the transaction's. If another connection remembered the answer first, the
// function is run again: at READ COMMITTED its Replay now finds that answer.
func (s *DB) runUpdate(u *groupcommit.Update[handle], db *session) (tx *rows.Tx, own, err error) {
	for rerun := 0; ; rerun++ {
		tx = rows.NewTx(db, s.now)
		own = u.Run(handle{tx, db})
		lost := tx.Close()
		switch {
		case db.fatal != nil:
			return tx, own, db.fatal
		case own == nil && !lost && !db.busy:
			db.keep()
			return tx, nil, nil
		}
		if err := db.undo(); err != nil {
			return tx, own, db.failure(err)
		}
		if db.busy {
			db.busy = false
			return tx, errSetAside, nil
		}
		if !lost || rerun == maxReruns {
			if own == nil {
				own = fmt.Errorf("%w: an answer is already remembered", records.ErrExists)
			}
			return tx, own, nil
		}
	}
}
