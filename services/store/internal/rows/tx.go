package rows

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/openova-io/bp-relay/services/store"
)

var (
	errEnded    = errors.New("store: transaction used after its function returned")
	errReadOnly = errors.New("store: write in a read-only transaction")
)

// Tx is one caller's transaction over a DB. Its events and leaves are kept
// here until Flush writes those of a whole group with few statements.
type Tx struct {
	db       DB
	now      func() time.Time
	readOnly bool
	ended    bool

	events []store.Event
	leaves []store.Leaf
	lost   bool
}

var _ store.Tx = (*Tx)(nil)

// NewTx returns a transaction that reads and writes.
func NewTx(db DB, now func() time.Time) *Tx { return &Tx{db: db, now: now} }

// NewView returns a transaction that only reads.
func NewView(db DB, now func() time.Time) *Tx { return &Tx{db: db, now: now, readOnly: true} }

// End makes further calls fail, and says whether Remember lost against
// another transaction: the function should then be run again, so that its
// Replay finds the other's answer.
func (t *Tx) End() (lost bool) {
	t.ended = true
	return t.lost
}

// ready is asked before each call. The caller's ctx is looked at here only:
// passed on, its end would break a connection that is shared by a group.
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

func (t *Tx) scan(kind store.Kind, row Row) (store.Record, error) {
	r := store.Record{Kind: kind}
	err := row.Scan(&r.Name, &r.Org, &r.Parent, &r.State, &r.Version,
		t.db.TimeDest(&r.CreateTime), t.db.TimeDest(&r.UpdateTime), &r.Body)
	r.CreateTime, r.UpdateTime = r.CreateTime.UTC(), r.UpdateTime.UTC()
	return r, err
}

// Get implements store.Tx.
func (t *Tx) Get(ctx context.Context, kind store.Kind, name string) (store.Record, error) {
	if err := t.ready(ctx, false); err != nil {
		return store.Record{}, err
	}
	tab, err := table(kind)
	if err != nil {
		return store.Record{}, err
	}
	var found []store.Record
	if text("name", name, true) == nil { // what cannot be stored is not there
		err = t.db.Query(ctx, func(row Row) error {
			r, err := t.scan(kind, row)
			found = append(found, r)
			return err
		}, "SELECT "+columns+" FROM "+tab+" WHERE name = $1", name)
	}
	if err != nil {
		return store.Record{}, fmt.Errorf("store: get %s %q: %w", kind, name, err)
	}
	if len(found) == 0 {
		return store.Record{}, fmt.Errorf("%w: %s %q", store.ErrNotFound, kind, name)
	}
	return found[0], nil
}

// List implements store.Tx.
func (t *Tx) List(ctx context.Context, q store.Query) ([]store.Record, error) {
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
	var found []store.Record
	err = t.db.Query(ctx, func(row Row) error {
		r, err := t.scan(q.Kind, row)
		found = append(found, r)
		return err
	}, query, args...)
	if err != nil {
		return nil, fmt.Errorf("store: list %s: %w", q.Kind, err)
	}
	return found, nil
}

// list builds the statement of a query. Only placeholders depend on it.
func list(tab string, q store.Query, limit int) (string, []any) {
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

// Insert implements store.Tx.
func (t *Tx) Insert(ctx context.Context, r store.Record) (store.Record, error) {
	if err := t.ready(ctx, true); err != nil {
		return store.Record{}, err
	}
	tab, err := table(r.Kind)
	if err == nil {
		err = checkRecord(&r)
	}
	if err != nil {
		return store.Record{}, err
	}
	r.Version, r.CreateTime = 1, clip(t.now())
	r.UpdateTime = r.CreateTime
	n, err := t.db.Exec(ctx, "INSERT INTO "+tab+" ("+columns+
		") VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
		r.Name, r.Org, r.Parent, r.State, r.Version, t.db.Time(r.CreateTime), t.db.Time(r.UpdateTime), string(r.Body))
	if err != nil {
		return store.Record{}, fmt.Errorf("store: insert %s %q: %w", r.Kind, r.Name, err)
	}
	if n == 0 {
		return store.Record{}, fmt.Errorf("%w: %s %q", store.ErrExists, r.Kind, r.Name)
	}
	return r, nil
}

// Update implements store.Tx.
func (t *Tx) Update(ctx context.Context, r store.Record) (store.Record, error) {
	if err := t.ready(ctx, true); err != nil {
		return store.Record{}, err
	}
	tab, err := table(r.Kind)
	if err == nil && r.Org == "" {
		r.Org = "-" // not written: an update may leave it out
	}
	if err == nil {
		err = checkRecord(&r)
	}
	if err != nil {
		return store.Record{}, err
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
		return store.Record{}, fmt.Errorf("store: update %s %q: %w", r.Kind, r.Name, err)
	}
	if !found {
		return store.Record{}, t.missed(ctx, r.Kind, r.Name, r.Version)
	}
	r.CreateTime = r.CreateTime.UTC()
	return r, nil
}

// Delete implements store.Tx.
func (t *Tx) Delete(ctx context.Context, kind store.Kind, name string, version int64) error {
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
		return fmt.Errorf("store: delete %s %q: %w", kind, name, err)
	}
	if n == 0 {
		return t.missed(ctx, kind, name, version)
	}
	return nil
}

// missed says why a compare-and-swap changed nothing.
func (t *Tx) missed(ctx context.Context, kind store.Kind, name string, version int64) error {
	r, err := t.Get(ctx, kind, name)
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: %s %q is at version %d, not %d", store.ErrConflict, kind, name, r.Version, version)
}

// Event implements store.Tx.
func (t *Tx) Event(ctx context.Context, e store.Event) error {
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

// Leaf implements store.Tx.
func (t *Tx) Leaf(ctx context.Context, l store.Leaf) error {
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

// MaxFlush bounds, in bytes, what a group keeps in memory for its Flush: it
// takes no further member beyond it.
const MaxFlush = 8 << 20

// Size is how many bytes of events and leaves the transaction keeps.
func (t *Tx) Size() (n int) {
	for _, e := range t.events {
		n += len(e.Body)
	}
	for _, l := range t.leaves {
		n += len(l.Body) + len(l.Opening)
	}
	return n
}

// Flush writes what the transactions of one group have kept, in order.
func Flush(ctx context.Context, db DB, txs ...*Tx) error {
	var events []store.Event
	var leaves []store.Leaf
	for _, t := range txs {
		events, leaves = append(events, t.events...), append(leaves, t.leaves...)
	}
	if len(leaves) > 0 {
		if err := db.AddLeaves(ctx, leaves); err != nil {
			return fmt.Errorf("store: add leaves: %w", err)
		}
	}
	if len(events) > 0 {
		if err := db.AddEvents(ctx, events); err != nil {
			return fmt.Errorf("store: add events: %w", err)
		}
	}
	return nil
}
