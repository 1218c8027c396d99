package ledger

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/openova-io/bp-relay/services/evidence/leaf"
	"github.com/openova-io/bp-relay/services/store"
)

const (
	// Subject is the resource that leaves about the log itself are about.
	Subject = "log"
	// TypeKey is the leaf by which the log vouches for a signing key.
	TypeKey = "log.key"
	// TypeMismatch says that the object store showed another log.
	TypeMismatch = "log.mismatch"
	// actor is who acts where no person does.
	actor = "relay"
)

// SigningKey is a key that signs what bags hold.
type SigningKey struct {
	// Purpose is what it signs: "manifest", "bag".
	Purpose string
	Public  ed25519.PublicKey
}

// KeyDetail is what a "log.key" leaf commits to: nothing but the log's own
// key is needed to trust the key with this hash for this purpose.
type KeyDetail struct {
	Purpose string `json:"purpose"`
	// KeyID is the id that DSSE signatures name: see KeyID.
	KeyID     string `json:"keyid"`
	Algorithm string `json:"algorithm"` // "ed25519"
	// SHA256 is the hex hash of the raw public key.
	SHA256 string `json:"public_key_sha256"`
}

// KeyID names a public key: "ed25519:" and the hex SHA-256 of its raw bytes.
func KeyID(pub ed25519.PublicKey) string {
	sum := sha256.Sum256(pub)
	return "ed25519:" + hex.EncodeToString(sum[:])
}

// detail is what the key's leaf says.
func (k SigningKey) detail() KeyDetail {
	sum := sha256.Sum256(k.Public)
	return KeyDetail{Purpose: k.Purpose, KeyID: KeyID(k.Public), Algorithm: "ed25519", SHA256: hex.EncodeToString(sum[:])}
}

// announce writes the "log.key" leaves that are missing: when the log is born
// and when a key is new. Only the lease's holder does.
func (l *Ledger) announce(ctx context.Context) error {
	known := map[KeyDetail]bool{}
	err := l.EachOf(ctx, "", Subject, func(lf store.Leaf) error {
		b, o, err := leaf.Open(lf.Body, lf.Opening)
		if err != nil || b.Type != TypeKey {
			return nil // not ours to judge here: verify does
		}
		var d KeyDetail
		if json.Unmarshal(o.Detail, &d) == nil {
			known[d] = true
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the log's keys: %w", err)
	}
	for _, k := range l.cfg.Signing {
		if known[k.detail()] {
			continue
		}
		if err := l.add(ctx, TypeKey, k.detail()); err != nil {
			return err
		}
		l.log.InfoContext(ctx, "signing key entered in the log", "purpose", k.Purpose, "keyid", KeyID(k.Public))
	}
	return nil
}

// add appends a leaf about the log itself.
func (l *Ledger) add(ctx context.Context, typ string, detail any) error {
	lf, err := leaf.New(leaf.Act{Type: typ, Actor: actor, Subject: Subject, Detail: detail})
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
