package rows

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/openova-io/bp-relay/services/records"
)

const (
	maxGrow  = 8192 // rows numbered in one transaction
	pruneOne = 1000 // rows deleted in one transaction
)

// errMoved: another call grew the log between the snapshot and the write.
var errMoved = errors.New("records: the log has moved on")

// Log implements records.Log over an engine.
type Log struct{ e Engine }

var _ records.Log = (*Log)(nil)

// NewLog returns the log of an engine.
func NewLog(e Engine) *Log { return &Log{e: e} }

func state(ctx context.Context, db DB) (cp records.Checkpoint, err error) {
	var root []byte
	err = db.Query(ctx, func(row Row) error {
		return row.Scan(&cp.Size, &root, &cp.Note, &cp.Published, &cp.Fence)
	}, "SELECT size, root, note, published, fence FROM log_state WHERE id = 1")
	if err == nil && len(root) != tlog.HashSize {
		err = fmt.Errorf("root has %d bytes", len(root))
	}
	if err != nil {
		return cp, fmt.Errorf("records: log state: %w", err)
	}
	copy(cp.Root[:], root)
	return cp, nil
}

// hold locks the log's state for the rest of the transaction and stores the
// fence. It returns records.ErrFenced for a lower one.
func hold(ctx context.Context, db DB, fence int64) error {
	n, err := db.Exec(ctx, "UPDATE log_state SET fence = $1 WHERE id = 1 AND fence <= $2", fence, fence)
	if err != nil {
		return fmt.Errorf("records: log state: %w", err)
	}
	if n == 0 {
		return fenced(ctx, db, fence)
	}
	return nil
}

func fenced(ctx context.Context, db DB, fence int64) error {
	cp, err := state(ctx, db)
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: token %d, the records have seen %d", records.ErrFenced, fence, cp.Fence)
}

// Claim implements records.Log. The comparison and the write are one statement,
// so that of two who have seen the same fence one is refused.
func (l *Log) Claim(ctx context.Context, seen, token int64) (fence int64, err error) {
	fence = max(token, seen+1)
	err = l.e.Write(ctx, func(db DB) error {
		n, err := db.Exec(ctx, "UPDATE log_state SET fence = $1 WHERE id = 1 AND fence = $2", fence, seen)
		if err != nil {
			return fmt.Errorf("records: log state: %w", err)
		}
		if n == 0 {
			return fenced(ctx, db, seen)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return fence, nil
}

// Grow implements records.Log. build runs on a snapshot, without the write lock;
// the result is written only if the checkpoint has not changed since.
func (l *Log) Grow(ctx context.Context, fence int64, limit int,
	build func(records.Checkpoint, []records.Leaf, tlog.HashReader) ([]tlog.Hash, records.Checkpoint, error),
) (int, error) {
	for {
		n, err := l.grow(ctx, fence, min(max(limit, 1), maxGrow), build)
		if !errors.Is(err, errMoved) {
			return n, err
		}
		if err := ctx.Err(); err != nil {
			return 0, err
		}
	}
}

func (l *Log) grow(ctx context.Context, fence int64, limit int,
	build func(records.Checkpoint, []records.Leaf, tlog.HashReader) ([]tlog.Hash, records.Checkpoint, error),
) (int, error) {
	var old records.Checkpoint
	var leaves []records.Leaf
	var positions []int64
	err := l.e.Read(ctx, func(db DB) (err error) {
		if old, err = state(ctx, db); err != nil || fence < old.Fence {
			return err
		}
		leaves, positions, err = pending(ctx, db, limit)
		return err
	})
	switch {
	case err != nil:
		return 0, err
	case fence < old.Fence:
		return 0, fmt.Errorf("%w: token %d, the records have seen %d", records.ErrFenced, fence, old.Fence)
	case len(leaves) == 0 && fence == old.Fence:
		return 0, nil
	case len(leaves) == 0:
		return 0, l.e.Write(ctx, func(db DB) error { return hold(ctx, db, fence) })
	}
	for i := range leaves {
		leaves[i].Index = old.Size + int64(i)
	}
	hashes, cp, err := build(old, leaves, l.Hashes(ctx))
	if err != nil {
		return 0, err
	}
	size := old.Size + int64(len(leaves))
	first := tlog.StoredHashCount(old.Size)
	if cp.Size != size || int64(len(hashes)) != tlog.StoredHashCount(size)-first {
		return 0, fmt.Errorf("%w: build made size %d with %d hashes, not size %d with %d",
			records.ErrInvalid, cp.Size, len(hashes), size, tlog.StoredHashCount(size)-first)
	}
	err = l.e.Write(ctx, func(db DB) error {
		n, err := db.Exec(ctx, "UPDATE log_state SET size = $1, root = $2, note = $3, fence = $4"+
			" WHERE id = 1 AND size = $5 AND fence <= $6",
			size, cp.Root[:], cp.Note, fence, old.Size, fence)
		if err != nil {
			return fmt.Errorf("records: checkpoint: %w", err)
		}
		if n == 0 {
			if err := hold(ctx, db, fence); err != nil {
				return err
			}
			return errMoved
		}
		if err := db.AddHashes(ctx, first, hashes); err != nil {
			return fmt.Errorf("records: add hashes: %w", err)
		}
		n, err = db.NumberLeaves(ctx, positions, old.Size)
		if err == nil && n != int64(len(positions)) {
			err = fmt.Errorf("%d of %d leaves changed", n, len(positions))
		}
		if err != nil {
			return fmt.Errorf("records: number leaves: %w", err)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return len(leaves), nil
}

// Checkpoint implements records.Log.
func (l *Log) Checkpoint(ctx context.Context) (cp records.Checkpoint, err error) {
	err = l.e.Read(ctx, func(db DB) (err error) {
		cp, err = state(ctx, db)
		return err
	})
	return cp, err
}

// Published implements records.Log.
func (l *Log) Published(ctx context.Context, fence, size int64) error {
	return l.e.Write(ctx, func(db DB) error {
		if err := hold(ctx, db, fence); err != nil {
			return err
		}
		cp, err := state(ctx, db)
		if err != nil {
			return err
		}
		if size > cp.Size {
			return fmt.Errorf("%w: published %d of a log of %d", records.ErrInvalid, size, cp.Size)
		}
		_, err = db.Exec(ctx, "UPDATE log_state SET published = $1 WHERE id = 1 AND published < $2", size, size)
		return err
	})
}

// NumberEvents implements records.Log.
func (l *Log) NumberEvents(ctx context.Context, fence int64, limit int) (int, error) {
	limit = min(max(limit, 1), maxGrow)
	idle := false
	err := l.e.Read(ctx, func(db DB) error { // so that an idle log is not written to
		cp, err := state(ctx, db)
		if err != nil {
			return err
		}
		if fence < cp.Fence {
			return fmt.Errorf("%w: token %d, the records have seen %d", records.ErrFenced, fence, cp.Fence)
		}
		waiting, _, err := unnumbered(ctx, db, 1)
		idle = fence == cp.Fence && len(waiting) == 0
		return err
	})
	if err != nil || idle {
		return 0, err
	}
	numbered := 0
	err = l.e.Write(ctx, func(db DB) error {
		if err := hold(ctx, db, fence); err != nil {
			return err
		}
		positions, orgs, err := unnumbered(ctx, db, limit)
		if err != nil || len(positions) == 0 {
			numbered = 0
			return err
		}
		seqs, err := number(ctx, db, orgs)
		if err != nil {
			return err
		}
		n, err := db.NumberEvents(ctx, positions, seqs)
		if err == nil && n != int64(len(positions)) {
			err = fmt.Errorf("%d of %d events changed", n, len(positions))
		}
		if err != nil {
			return fmt.Errorf("records: number events: %w", err)
		}
		numbered = len(positions)
		return nil
	})
	if err != nil {
		return 0, err
	}
	return numbered, nil
}

// unnumbered returns the positions and organisations of unnumbered events in
// commit order.
func unnumbered(ctx context.Context, db DB, limit int) (positions []int64, orgs []string, err error) {
	err = db.Query(ctx, func(row Row) error {
		var pos int64
		var org string
		err := row.Scan(&pos, &org)
		positions, orgs = append(positions, pos), append(orgs, org)
		return err
	}, "SELECT pos, org FROM events WHERE seq IS NULL ORDER BY pos LIMIT $1", int64(limit))
	if err != nil {
		return nil, nil, fmt.Errorf("records: unnumbered events: %w", err)
	}
	return positions, orgs, nil
}

// number assigns the next sequence number of its organisation to each entry.
func number(ctx context.Context, db DB, orgs []string) ([]int64, error) {
	count := map[string]int64{}
	for _, org := range orgs {
		count[org]++
	}
	next := make(map[string]int64, len(count))
	for org, n := range count {
		err := db.Query(ctx, func(row Row) error {
			var last int64
			err := row.Scan(&last)
			next[org] = last - n
			return err
		}, "INSERT INTO event_counters (org, seq) VALUES ($1, $2) ON CONFLICT (org)"+
			" DO UPDATE SET seq = event_counters.seq + excluded.seq RETURNING seq", org, n)
		if err != nil {
			return nil, fmt.Errorf("records: event counter: %w", err)
		}
	}
	seqs := make([]int64, len(orgs))
	for i, org := range orgs {
		next[org]++
		seqs[i] = next[org]
	}
	return seqs, nil
}

// PruneEvents implements records.Log.
func (l *Log) PruneEvents(ctx context.Context, before time.Time) (int64, error) {
	var total int64
	for {
		var n int64
		err := l.e.Write(ctx, func(db DB) (err error) {
			n, err = db.Exec(ctx, "DELETE FROM events WHERE pos IN"+
				" (SELECT pos FROM events WHERE seq IS NOT NULL AND time < $1 LIMIT $2)",
				db.Time(clip(before)), int64(pruneOne))
			return err
		})
		if err != nil {
			return total, fmt.Errorf("records: prune events: %w", err)
		}
		total += n
		if n < pruneOne {
			return total, nil
		}
	}
}
