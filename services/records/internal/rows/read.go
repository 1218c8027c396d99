package rows

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/openova-io/bp-relay/services/records"
)

const leafColumns = "pos, id, org, subject, time, body, opening, idx"

// leaves selects leafColumns; query is the rest of the statement.
func leaves(ctx context.Context, db DB, query string, args ...any) (found []records.Leaf, positions []int64, err error) {
	err = db.Query(ctx, func(row Row) error {
		var l records.Leaf
		var pos int64
		var idx *int64
		err := row.Scan(&pos, &l.ID, &l.Org, &l.Subject, db.TimeDest(&l.Time), &l.Body, &l.Opening, &idx)
		l.Time, l.Index = l.Time.UTC(), -1
		if idx != nil {
			l.Index = *idx
		}
		found, positions = append(found, l), append(positions, pos)
		return err
	}, "SELECT "+leafColumns+" FROM leaves "+query, args...)
	if err != nil {
		return nil, nil, fmt.Errorf("records: leaves: %w", err)
	}
	return found, positions, nil
}

// pending returns the first unnumbered leaves in commit order.
func pending(ctx context.Context, db DB, limit int) ([]records.Leaf, []int64, error) {
	return leaves(ctx, db, "WHERE idx IS NULL ORDER BY pos LIMIT $1", int64(limit))
}

// Leaves implements records.Log.
func (l *Log) Leaves(ctx context.Context, from, to int64) (found []records.Leaf, err error) {
	err = l.e.Read(ctx, func(db DB) (err error) {
		found, _, err = leaves(ctx, db, "WHERE idx >= $1 AND idx < $2 ORDER BY idx", from, to)
		return err
	})
	return found, err
}

// LeavesOf implements records.Log.
func (l *Log) LeavesOf(ctx context.Context, org, subject string, after int64, limit int) (found []records.Leaf, err error) {
	if limit <= 0 {
		limit = 100
	}
	err = l.e.Read(ctx, func(db DB) (err error) {
		found, _, err = leaves(ctx, db, "WHERE org = $1 AND subject = $2 AND idx > $3 ORDER BY idx LIMIT $4",
			org, subject, after, int64(limit))
		if err != nil || len(found) == limit {
			return err
		}
		waiting, _, err := leaves(ctx, db, "WHERE org = $1 AND subject = $2 AND idx IS NULL ORDER BY pos LIMIT $3",
			org, subject, int64(limit-len(found)))
		found = append(found, waiting...)
		return err
	})
	return found, err
}

// LeafByID implements records.Log.
func (l *Log) LeafByID(ctx context.Context, id string) (records.Leaf, error) {
	var found []records.Leaf
	err := l.e.Read(ctx, func(db DB) (err error) {
		found, _, err = leaves(ctx, db, "WHERE id = $1", id)
		return err
	})
	if err != nil {
		return records.Leaf{}, err
	}
	if len(found) == 0 {
		return records.Leaf{}, fmt.Errorf("%w: leaf %q", records.ErrNotFound, id)
	}
	return found[0], nil
}

// Events implements records.Log.
func (l *Log) Events(ctx context.Context, org string, after int64, limit int) (found []records.Event, err error) {
	if limit <= 0 {
		limit = 100
	}
	err = l.e.Read(ctx, func(db DB) error {
		return db.Query(ctx, func(row Row) error {
			e := records.Event{Org: org}
			err := row.Scan(&e.ID, &e.Type, &e.Subject, db.TimeDest(&e.Time), &e.Body, &e.Seq)
			e.Time = e.Time.UTC()
			found = append(found, e)
			return err
		}, "SELECT id, type, subject, time, body, seq FROM events WHERE org = $1 AND seq > $2 ORDER BY seq LIMIT $3",
			org, after, int64(limit))
	})
	if err != nil {
		return nil, fmt.Errorf("records: events: %w", err)
	}
	return found, nil
}

// LastEvents implements records.Log.
func (l *Log) LastEvents(ctx context.Context, orgs []string) (map[string]int64, error) {
	found := make(map[string]int64, len(orgs))
	err := l.e.Read(ctx, func(db DB) error {
		clear(found)
		for part := range slices.Chunk(orgs, 64) {
			args := make([]any, 64) // so that there is one statement
			for i := range args {
				args[i] = part[min(i, len(part)-1)]
			}
			err := db.Query(ctx, func(row Row) error {
				var org string
				var seq int64
				err := row.Scan(&org, &seq)
				found[org] = seq
				return err
			}, "SELECT org, seq FROM event_counters WHERE org IN ("+placeholders(len(args))+")", args...)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("records: last events: %w", err)
	}
	return found, nil
}

// Hashes implements records.Log.
func (l *Log) Hashes(ctx context.Context) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		at := make(map[int64][]int, len(indexes)) // storage index -> positions in the answer
		for i, x := range indexes {
			at[x] = append(at[x], i)
		}
		found := make([]tlog.Hash, len(indexes))
		left := len(indexes)
		err := l.e.Read(ctx, func(db DB) error {
			for rest := indexes; len(rest) > 0; {
				n := 1 // chunks of 1 or 64, so that there are few different statements
				if len(rest) >= 64 {
					n = 64
				}
				err := db.Query(ctx, func(row Row) error {
					var idx int64
					var hash []byte
					if err := row.Scan(&idx, &hash); err != nil {
						return err
					}
					if len(hash) != tlog.HashSize {
						return fmt.Errorf("hash %d has %d bytes", idx, len(hash))
					}
					for _, i := range at[idx] {
						copy(found[i][:], hash)
						left--
					}
					delete(at, idx)
					return nil
				}, "SELECT idx, hash FROM hashes WHERE idx IN ("+placeholders(n)+")", ints(rest[:n])...)
				if err != nil {
					return err
				}
				rest = rest[n:]
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("records: hashes: %w", err)
		}
		if left > 0 {
			return nil, fmt.Errorf("%w: %d stored hashes", records.ErrNotFound, left)
		}
		return found, nil
	})
}

func placeholders(n int) string {
	s := make([]string, n)
	for i := range s {
		s[i] = "$" + strconv.Itoa(i+1)
	}
	return strings.Join(s, ", ")
}

func ints(v []int64) []any {
	args := make([]any, len(v))
	for i, x := range v {
		args[i] = x
	}
	return args
}
