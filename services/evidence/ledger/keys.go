package ledger

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/openova-io/bp-relay/services/format/leaf"
	"github.com/openova-io/bp-relay/services/format/proof"
	"github.com/openova-io/bp-relay/services/internal/change"
	"github.com/openova-io/bp-relay/services/records"
)

const (
	// TypeMismatch is the type of leaves about a Mismatch.
	TypeMismatch = "log.mismatch"
	// actor is the actor of leaves that no person causes.
	actor = "relay"
)

// announce writes the missing "log.key" leaves: in a new log, and after a
// signing key has changed. Only the lease's holder calls it.
func (l *Ledger) announce(ctx context.Context) error {
	known := map[string]bool{}
	name := func(k proof.Key) string { return k.Purpose + " " + k.ID }
	err := l.EachOf(ctx, "", proof.LogSubject, func(lf records.Leaf) error {
		b, o, err := leaf.Open(lf.Body, lf.Opening)
		if err != nil || b.Type != proof.KeyType {
			return nil //nolint:nilerr // the verifier judges leaves, not announce
		}
		var k proof.Key
		if json.Unmarshal(o.Detail, &k) == nil && k.Check() == nil {
			known[name(k)] = true
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the log's keys: %w", err)
	}
	for _, k := range l.cfg.Signing {
		if known[name(k)] {
			continue
		}
		if err := l.add(ctx, proof.KeyType, k); err != nil {
			return err
		}
		l.log.InfoContext(ctx, "signing key added to the log", "purpose", k.Purpose, "key_id", k.ID)
	}
	return nil
}

// add appends a leaf about the log itself.
func (l *Ledger) add(ctx context.Context, typ string, detail any) error {
	lf, err := change.Leaf(leaf.Act{Type: typ, Actor: actor, Subject: proof.LogSubject, Detail: detail})
	if err != nil {
		return err
	}
	err = l.cfg.Records.Update(ctx, func(tx records.Tx) error { return tx.Leaf(ctx, lf) })
	if err != nil {
		return fmt.Errorf("add %s leaf: %w", typ, err)
	}
	l.Wake()
	return nil
}

// page is the most leaves in one query.
const page = 500

// EachOf calls fn for every leaf about a subject, in the order of the index.
// Unnumbered leaves come last, at most page of them.
func (l *Ledger) EachOf(ctx context.Context, org, subject string, fn func(records.Leaf) error) error {
	for after := int64(-1); ; {
		ls, err := l.cfg.Records.Log().LeavesOf(ctx, org, subject, after, page)
		if err != nil {
			return fmt.Errorf("leaves of %s: %w", subject, err)
		}
		for _, lf := range ls {
			if err := fn(lf); err != nil {
				return err
			}
		}
		if len(ls) < page || ls[len(ls)-1].Index < 0 {
			return nil
		}
		after = ls[len(ls)-1].Index
	}
}
