package ledger

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/openova-io/bp-relay/services/evidence/leaf"
	"github.com/openova-io/bp-relay/services/evidence/proof"
	"github.com/openova-io/bp-relay/services/store"
)

const (
	// TypeMismatch says that the object store showed another log.
	TypeMismatch = "log.mismatch"
	// actor is who acts where no person does.
	actor = "relay"
)

// announce writes the "log.key" leaves that are missing: when the log is born
// and when a key is new. Only the lease's holder does.
func (l *Ledger) announce(ctx context.Context) error {
	known := map[string]bool{}
	name := func(k proof.Key) string { return k.Purpose + " " + k.ID }
	err := l.EachOf(ctx, "", proof.LogSubject, func(lf store.Leaf) error {
		b, o, err := leaf.Open(lf.Body, lf.Opening)
		if err != nil || b.Type != proof.KeyType {
			return nil //nolint:nilerr // not ours to judge here: verify does
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
		l.log.InfoContext(ctx, "signing key entered in the log", "purpose", k.Purpose, "keyid", k.ID)
	}
	return nil
}

// add appends a leaf about the log itself.
func (l *Ledger) add(ctx context.Context, typ string, detail any) error {
	lf, err := leaf.New(leaf.Act{Type: typ, Actor: actor, Subject: proof.LogSubject, Detail: detail})
	if err != nil {
		return err
	}
	err = l.cfg.Store.Update(ctx, func(tx store.Tx) error { return tx.Leaf(ctx, lf) })
	if err != nil {
		return fmt.Errorf("add %s leaf: %w", typ, err)
	}
	l.Wake()
	return nil
}

// page is how many leaves one query reads.
const page = 500

// EachOf calls fn for every leaf about a subject, in the order of the index,
// unnumbered ones last (only the first page of those).
func (l *Ledger) EachOf(ctx context.Context, org, subject string, fn func(store.Leaf) error) error {
	for after := int64(-1); ; {
		ls, err := l.cfg.Store.Log().LeavesOf(ctx, org, subject, after, page)
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
