package change

import (
	"context"
	"errors"
	"fmt"

	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/records"
)

// Transition is one row of a state table: in state From, Verb leads to To.
type Transition struct {
	// From is "" for a resource that has no record yet.
	From, Verb, To string
	// Event is the type of the event and of the leaf: "room.ended". If it is
	// "", the verb is allowed and changes nothing.
	Event string
}

// Table has a row for each verb that is allowed in a state.
type Table []Transition

// Next returns the row for a verb in a state; ok is false if the verb is not
// allowed there.
func (t Table) Next(from, verb string) (row Transition, ok bool) {
	for _, row := range t {
		if row.From == from && row.Verb == verb {
			return row, true
		}
	}
	return Transition{}, false
}

// StateError reports that the record's state does not allow the verb.
type StateError struct{ Name, State, Verb string }

func (e *StateError) Error() string {
	return fmt.Sprintf("%s is %q, which does not allow %s", e.Name, e.State, e.Verb)
}

// Step is one verb on a record whose body is a JSON document B.
type Step[B any] struct {
	Verb, Actor string
	// If reports whether the step is still wanted, given the record as it is in
	// the transaction; nil means yes. If not, nothing changes.
	If func(rec records.Record, body *B) bool
	// Edit changes the body and returns the details of event and leaf: a JSON
	// object without secrets.
	Edit func(body *B) (detail any)
}

// Apply performs the step on rec, as tx has read it, and returns the record as
// written. A record of version 0 is inserted: then rec has kind, name,
// organisation and parent only. It fails with a *StateError if the table does
// not allow the verb, with records.ErrConflict or records.ErrExists if another
// transaction was faster.
func Apply[B any](ctx context.Context, tx records.Tx, t Table, rec records.Record, step Step[B]) (records.Record, error) {
	row, ok := t.Next(rec.State, step.Verb)
	if !ok {
		return rec, &StateError{Name: rec.Name, State: rec.State, Verb: step.Verb}
	}
	if row.Event == "" {
		return rec, nil
	}
	var body B
	var err error
	if rec.Version > 0 {
		if body, err = resource.Body[B](rec); err != nil {
			return rec, err
		}
	}
	if step.If != nil && !step.If(rec, &body) {
		return rec, nil
	}
	detail := step.Edit(&body)
	changed := rec
	changed.State = row.To
	if changed.Body, err = resource.Encode(rec.Body, body); err != nil {
		return rec, fmt.Errorf("body of record %s: %w", rec.Name, err)
	}
	write := tx.Update
	if rec.Version == 0 {
		write = tx.Insert
	}
	if changed, err = write(ctx, changed); err != nil {
		return rec, err
	}
	return changed, note(ctx, tx, changed.Org, row.Event, step.Actor, changed.Name, detail)
}

// Run is Apply in a transaction of its own, on the record of that name. It
// tries again if another transaction was faster. It fails with the type's
// NOT_FOUND if there is no record.
func Run[B any](ctx context.Context, db records.DB, typ resource.Type, t Table, name string, step Step[B]) (rec records.Record, err error) {
	for {
		err = db.Update(ctx, func(tx records.Tx) error {
			if rec, err = typ.Get(ctx, tx, name); err != nil {
				return err
			}
			rec, err = Apply(ctx, tx, t, rec, step)
			return err
		})
		if !errors.Is(err, records.ErrConflict) || ctx.Err() != nil {
			return rec, err
		}
	}
}
