// Package change writes what belongs to every change of a record: the row, its
// event in the outbox and its leaf in the evidence log, in one transaction.
// Event and leaf share an id and a time. A service states as a Table which
// verb leads from which state to which; Apply and Run follow it.
package change

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/openova-io/bp-relay/services/format/leaf"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/records"
)

// Relay is the actor of a change that no caller asked for.
const Relay = "relay"

// Note writes the event and the leaf of what actor did to the resource of that
// name, for the organisation in the name. kind is like "room.created"; detail
// is a JSON object without secrets.
func Note(ctx context.Context, tx records.Tx, kind, actor, name string, detail any) error {
	return note(ctx, tx, resource.Org(name), kind, actor, name, detail)
}

func note(ctx context.Context, tx records.Tx, org, kind, actor, name string, detail any) error {
	l, err := Leaf(leaf.Act{Type: kind, Org: org, Actor: actor, Subject: name, Detail: detail})
	if err != nil {
		return err
	}
	body, err := json.Marshal(detail)
	if err != nil {
		return fmt.Errorf("event detail: %w", err)
	}
	if err := tx.Event(ctx, records.Event{ID: l.ID, Org: org, Type: kind, Subject: name, Time: l.Time, Body: body}); err != nil {
		return err
	}
	return tx.Leaf(ctx, l)
}
