package rows

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/openova-io/bp-relay/services/records"
)

var (
	errEnded    = errors.New("records: transaction used after its function returned")
	errReadOnly = errors.New("records: write in a read-only transaction")
)

// Tx is one caller's transaction on a DB. It keeps its events and leaves until
// Flush writes those of a whole group with few statements.
type Tx struct {
	db       DB
	now      func() time.Time
	readOnly bool
	ended    bool

	events []records.Event
	leaves []records.Leaf
	lost   bool
}

var _ records.Tx = (*Tx)(nil)

// NewTx returns a read-write transaction.
func NewTx(db DB, now func() time.Time) *Tx { return &Tx{db: db, now: now} }

// NewView returns a read-only transaction.
func NewView(db DB, now func() time.Time) *Tx { return &Tx{db: db, now: now, readOnly: true} }

// Close makes further calls fail. It reports whether another transaction was the
// first to remember an answer: the function should then be run again, so that
// its Replay finds that answer.
func (t *Tx) Close() (lost bool) {
	t.ended = true
	return t.lost
}

// ready checks that a call is allowed. The caller's ctx is checked only here: a
// statement that it interrupts would break the connection of a whole group.
func (t *Tx) ready(ctx context.Context, write bool) error {
	switch {
	case t.ended:
		return errEnded
	case write && t.readOnly:
		return errReadOnly
	}
	return ctx.Err()
}

const columns = "name, org, parent, state, version, create_time, update_time, body"

func (t *Tx) scan(kind records.Kind, row Row) (records.Record, error) {
	r := records.Record{Kind: kind}
	err := row.Scan(&r.Name, &r.Org, &r.Parent, &r.State, &r.Version,
		t.db.TimeDest(&r.CreateTime), t.db.TimeDest(&r.UpdateTime), &r.Body)
	r.CreateTime, r.UpdateTime = r.CreateTime.UTC(), r.UpdateTime.UTC()
	return r, err
}

// Get implements records.Tx.
func (t *Tx) Get(ctx context.Context, kind records.Kind, name string) (records.Record, error) {
	if err := t.ready(ctx, false); err != nil {
		return records.Record{}, err
	}
	return t.get(ctx, kind, name, "")
}

// Share implements records.Tx.
func (t *Tx) Share(ctx context.Context, kind records.Kind, name string) (records.Record, error) {
	if err := t.ready(ctx, true); err != nil {
		return records.Record{}, err
	}
	return t.get(ctx, kind, name, t.db.Locking(true))
}

// Lock implements records.Tx.
func (t *Tx) Lock(ctx context.Context, kind records.Kind, name string) (records.Record, error) {
	if err := t.ready(ctx, true); err != nil {
		return records.Record{}, err
	}
	return t.get(ctx, kind, name, t.db.Locking(false))
}

func (t *Tx) get(ctx context.Context, kind records.Kind, name, locking string) (records.Record, error) {
	tab, err := table(kind)
	if err != nil {
		return records.Record{}, err
	}
	var found []records.Record
	if text("name", name, true) == nil { // an invalid name cannot exist
		err = t.db.Query(ctx, func(row Row) error {
			r, err := t.scan(kind, row)
			found = append(found, r)
			return err
		}, "SELECT "+columns+" FROM "+tab+" WHERE name = $1"+locking, name)
	}
	if err != nil {
		return records.Record{}, fmt.Errorf("records: get %s %q: %w", kind, name, err)
	}
	if len(found) == 0 {
		return records.Record{}, fmt.Errorf("%w: %s %q", records.ErrNotFound, kind, name)
	}
	return found[0], nil
}

// List implements records.Tx.
func (t *Tx) List(ctx context.Context, q records.Query) ([]records.Record, error) {
	if err := t.ready(ctx, false); err != nil {
		return nil, err
	}
	tab, err := table(q.Kind)
	if err != nil {
		return nil, err
	}
	for _, s := range append([]string{q.Org, q.Parent, q.After}, q.States...) {
		if err := text("query", s, false); err != nil {
			return nil, err
		}
	}
	limit := q.Limit
	if limit <= 0 {
		limit = 100
	}
	query, args := list(tab, q, min(limit, 1000))
	var found []records.Record
	err = t.db.Query(ctx, func(row Row) error {
		r, err := t.scan(q.Kind, row)
		found = append(found, r)
		return err
	}, query, args...)
	if err != nil {
		return nil, fmt.Errorf("records: list %s: %w", q.Kind, err)
	}
	return found, nil
}

// list builds the statement of a query. Values are always placeholders.
func list(tab string, q records.Query, limit int) (string, []any) {
	var where []string
	var args []any
	arg := func(v any) string {
		args = append(args, v)
		return "$" + strconv.Itoa(len(args))
	}
	if q.Org != "" {
		where = append(where, "org = "+arg(q.Org))
	}
	if q.Parent != "" {
		where = append(where, "parent = "+arg(q.Parent))
	}
	if len(q.States) > 0 {
		states := make([]string, len(q.States))
		for i, s := range q.States {
			states[i] = arg(s)
		}
		where = append(where, "state IN ("+strings.Join(states, ", ")+")")
	}
	if q.After != "" {
		where = append(where, "name > "+arg(q.After))
	}
	query := "SELECT " + columns + " FROM " + tab
	if len(where) > 0 {
		query += " WHERE " + strings.Join(where, " AND ")
	}
	return query + " ORDER BY name LIMIT " + arg(int64(limit)), args
}

// Insert implements records.Tx.
func (t *Tx) Insert(ctx context.Context, r records.Record) (records.Record, error) {
	if err := t.ready(ctx, true); err != nil {
		return records.Record{}, err
	}
	tab, err := table(r.Kind)
	if err == nil {
		err = checkRecord(&r)
	}
	if err != nil {
		return records.Record{}, err
	}
	r.Version, r.CreateTime = 1, clip(t.now())
	r.UpdateTime = r.CreateTime
	n, err := t.db.Exec(ctx, "INSERT INTO "+tab+" ("+columns+
		") VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
		r.Name, r.Org, r.Parent, r.State, r.Version, t.db.Time(r.CreateTime), t.db.Time(r.UpdateTime), string(r.Body))
	if err != nil {
		return records.Record{}, fmt.Errorf("records: insert %s %q: %w", r.Kind, r.Name, err)
	}
	if n == 0 {
		return records.Record{}, fmt.Errorf("%w: %s %q", records.ErrExists, r.Kind, r.Name)
	}
	return r, nil
}

// Update implements records.Tx.
func (t *Tx) Update(ctx context.Context, r records.Record) (records.Record, error) {
	if err := t.ready(ctx, true); err != nil {
		return records.Record{}, err
	}
	tab, err := table(r.Kind)
	if err == nil && r.Org == "" {
		r.Org = "-" // not written: an update may leave it out
	}
	if err == nil {
		err = checkRecord(&r)
	}
	if err != nil {
		return records.Record{}, err
	}
	r.UpdateTime = clip(t.now())
	found := false
	err = t.db.Query(ctx, func(row Row) error {
		found = true
		return row.Scan(&r.Org, &r.Version, t.db.TimeDest(&r.CreateTime))
	}, "UPDATE "+tab+" SET parent = $1, state = $2, body = $3, update_time = $4, version = version + 1"+
		" WHERE name = $5 AND version = $6 RETURNING org, version, create_time",
		r.Parent, r.State, string(r.Body), t.db.Time(r.UpdateTime), r.Name, r.Version)
	if err != nil {
		return records.Record{}, fmt.Errorf("records: update %s %q: %w", r.Kind, r.Name, err)
	}
	if !found {
		return records.Record{}, t.missed(ctx, r.Kind, r.Name, r.Version)
	}
	r.CreateTime = r.CreateTime.UTC()
	return r, nil
}

// Delete implements records.Tx.
func (t *Tx) Delete(ctx context.Context, kind records.Kind, name string, version int64) error {
	if err := t.ready(ctx, true); err != nil {
		return err
	}
	tab, err := table(kind)
	if err == nil {
		err = text("name", name, true)
	}
	if err != nil {
		return err
	}
	query, args := "DELETE FROM "+tab+" WHERE name = $1", []any{name}
	if version != 0 {
		query, args = query+" AND version = $2", append(args, version)
	}
	n, err := t.db.Exec(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("records: delete %s %q: %w", kind, name, err)
	}
	if n == 0 {
		return t.missed(ctx, kind, name, version)
	}
	return nil
}

// missed returns why a compare-and-swap changed nothing.
func (t *Tx) missed(ctx context.Context, kind records.Kind, name string, version int64) error {
	r, err := t.Get(ctx, kind, name)
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: %s %q is at version %d, not %d", records.ErrConflict, kind, name, r.Version, version)
}

// Event implements records.Tx.
func (t *Tx) Event(ctx context.Context, e records.Event) error {
	if err := t.ready(ctx, true); err != nil {
		return err
	}
	if err := checkEvent(&e); err != nil {
		return err
	}
	if e.Time.IsZero() {
		e.Time = t.now()
	}
	e.Time, e.Body = clip(e.Time), slices.Clone(e.Body)
	t.events = append(t.events, e)
	return nil
}

// Leaf implements records.Tx.
func (t *Tx) Leaf(ctx context.Context, l records.Leaf) error {
	if err := t.ready(ctx, true); err != nil {
		return err
	}
	if err := checkLeaf(&l); err != nil {
		return err
	}
	if l.Time.IsZero() {
		l.Time = t.now()
	}
	l.Time, l.Body, l.Opening = clip(l.Time), slices.Clone(l.Body), slices.Clone(l.Opening)
	t.leaves = append(t.leaves, l)
	return nil
}

// MaxFlush bounds the bytes of events and leaves that a group keeps for its
// Flush: above it, the group takes no further update.
const MaxFlush = 8 << 20

// Size is the number of bytes of events and leaves that the transaction keeps.
func (t *Tx) Size() (n int) {
	for _, e := range t.events {
		n += len(e.Body)
	}
	for _, l := range t.leaves {
		n += len(l.Body) + len(l.Opening)
	}
	return n
}

// Flush writes the events and leaves of a group's transactions, in order.
func Flush(ctx context.Context, db DB, txs ...*Tx) error {
	var events []records.Event
	var leaves []records.Leaf
	for _, t := range txs {
		events, leaves = append(events, t.events...), append(leaves, t.leaves...)
	}
	if len(leaves) > 0 {
		if err := db.AddLeaves(ctx, leaves); err != nil {
			return fmt.Errorf("records: add leaves: %w", err)
		}
	}
	if len(events) > 0 {
		if err := db.AddEvents(ctx, events); err != nil {
			return fmt.Errorf("records: add events: %w", err)
		}
	}
	return nil
}
