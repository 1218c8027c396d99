// Package act writes what goes with every change of a record: its event in
// the outbox and its leaf in the evidence log, which share an id and a time,
// in the transaction of the change itself. Services differ in what they
// change, not in how they tell of it.
package act

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/openova-io/bp-relay/services/evidence/leaf"
	"github.com/openova-io/bp-relay/services/store"
)

// Relay is the actor of what no caller asked for.
const Relay = "relay"

// Note appends event and leaf of what actor did to the resource of that name,
// for the organisation in the name. kind is like "room.created"; detail is a
// JSON object that holds no secret.
func Note(ctx context.Context, tx store.Tx, kind, actor, name string, detail any) error {
	l, err := leaf.New(leaf.Act{Type: kind, Org: Org(name), Actor: actor, Subject: name, Detail: detail})
	if err != nil {
		return err
	}
	body, err := json.Marshal(detail)
	if err != nil {
		return fmt.Errorf("event detail: %w", err)
	}
	if err := tx.Event(ctx, store.Event{ID: l.ID, Org: l.Org, Type: kind, Subject: name, Time: l.Time, Body: body}); err != nil {
		return err
	}
	return tx.Leaf(ctx, l)
}

// Org is the organisation's id in a resource name: "acme" of
// "orgs/acme/rooms/standup".
func Org(name string) string {
	org, _, _ := strings.Cut(strings.TrimPrefix(name, "orgs/"), "/")
	return org
}
