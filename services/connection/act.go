package connection

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/openova-io/bp-relay/services/evidence/leaf"
	"github.com/openova-io/bp-relay/services/store"
)

// relay is the actor of what no caller asked for.
const relay = "relay"

// act appends the event and the evidence leaf of what is done to name. detail
// is a JSON object that holds no secret.
func act(ctx context.Context, tx store.Tx, kind, actor, name string, detail any) error {
	l, err := leaf.New(leaf.Act{Type: kind, Org: orgOf(name), Actor: actor, Subject: name, Detail: detail})
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

// orgOf returns "acme" of "orgs/acme/sessions/1".
func orgOf(name string) string {
	org, _, _ := strings.Cut(strings.TrimPrefix(name, "orgs/"), "/")
	return org
}
