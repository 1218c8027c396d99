package evidence

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/google/uuid"

	"github.com/openova-io/bp-relay/services/capture/manifest"
	"github.com/openova-io/bp-relay/services/evidence/bag"
	"github.com/openova-io/bp-relay/services/evidence/leaf"
	"github.com/openova-io/bp-relay/services/evidence/ledger"
	"github.com/openova-io/bp-relay/services/evidence/proof"
	"github.com/openova-io/bp-relay/services/store"
)

// numbering is how long an export waits until its entries are in a signed
// checkpoint. Normally it takes milliseconds.
const numbering = 15 * time.Second

// Sealed gives a sealed capture: its manifest, its signed envelope exactly as
// stored, and what was recorded.
type Sealed interface {
	// Manifest returns ErrNotSealed for a capture that is still recording and
	// store.ErrNotFound where there is none.
	Manifest(ctx context.Context, capture string) (manifest.Manifest, []byte, error)
	bag.Media
}

// Exporter makes bags.
type Exporter struct {
	Store  store.Store
	Ledger *ledger.Ledger
	Sealed Sealed
	// Signer signs bags; the ledger's Signing must hold its public key with
	// proof.BagPurpose.
	Signer ed25519.PrivateKey
	// Scratch is for temporary files, "" means the system's folder.
	Scratch string
}

// Export writes the bag of a capture to w. The entry that says who takes it
// is in the log, with a proof, before the first byte is written. After an
// error what w got is not a bag; a retry makes a new one.
func (e Exporter) Export(ctx context.Context, capture, actor string, w io.Writer) error {
	m, envelope, err := e.Sealed.Manifest(ctx, capture)
	if err != nil {
		return err
	}
	custody, err := bag.NewCustody(e.Scratch)
	if err != nil {
		return err
	}
	defer func() { _ = custody.Close() }() // a temporary file
	keys, err := e.collect(ctx, m, custody)
	if err != nil {
		return err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("export id: %w", err)
	}
	at, err := e.enter(ctx, m, envelope, id.String(), actor, custody)
	if err != nil {
		return err
	}
	cp, err := e.Ledger.Checkpoint(ctx)
	if err != nil {
		return err
	}
	if _, last := custody.Last(); cp.Size <= last {
		return fmt.Errorf("%w: checkpoint of %d entries", ledger.ErrPending, cp.Size)
	}
	return bag.Write(ctx, w, bag.Input{
		Export: id.String(), Time: at, Manifest: m, Envelope: envelope, Custody: custody, Checkpoint: cp,
		VerifierKey: e.Ledger.VerifierKey(), Keys: keys, Media: e.Sealed, Signer: e.Signer, Scratch: e.Scratch,
		Prove: func(ctx context.Context, index int64) (proof.Inclusion, error) {
			return e.Ledger.ProveIn(ctx, cp, index)
		},
	})
}

// collect writes the custody log: everything about the capture, about its
// owner, and the log's entries that vouch for keys.
func (e Exporter) collect(ctx context.Context, m manifest.Manifest, custody *bag.Custody) ([]proof.Key, error) {
	var keys []proof.Key
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err := merge(func(l store.Leaf) error {
		b, o, err := leaf.Open(l.Body, l.Opening)
		if err != nil {
			return fmt.Errorf("entry %d: %w", l.Index, err)
		}
		if l.Subject == proof.LogSubject {
			if b.Type != proof.KeyType {
				return nil
			}
			k, err := keyOf(o)
			if err != nil {
				return fmt.Errorf("entry %d: %w", l.Index, err)
			}
			keys = append(keys, k)
		}
		return custody.Append(l)
	}, e.leaves(ctx, m.Org, m.Capture), e.leaves(ctx, m.Org, m.Owner), e.leaves(ctx, "", proof.LogSubject))
	if err != nil {
		return nil, fmt.Errorf("custody log of %s: %w", m.Capture, err)
	}
	return keys, nil
}

// leaves gives a subject's leaves in order; those that are not numbered yet
// are waited for.
func (e Exporter) leaves(ctx context.Context, org, subject string) iter.Seq2[store.Leaf, error] {
	return func(yield func(store.Leaf, error) bool) {
		if subject == "" {
			return
		}
		stop := errors.New("stop")
		err := e.Ledger.EachOf(ctx, org, subject, func(l store.Leaf) error {
			if l.Index < 0 {
				at, err := e.Ledger.Await(ctx, l.ID, numbering)
				if err != nil {
					return err
				}
				l.Index = at
			}
			if !yield(l, nil) {
				return stop
			}
			return nil
		})
		if err != nil && !errors.Is(err, stop) {
			yield(store.Leaf{}, err)
		}
	}
}

// merge calls fn for the leaves of all sequences in the order of the index.
func merge(fn func(store.Leaf) error, seqs ...iter.Seq2[store.Leaf, error]) error {
	type head struct {
		leaf store.Leaf
		next func() (store.Leaf, error, bool)
	}
	var heads []*head
	for _, s := range seqs {
		next, stop := iter.Pull2(s)
		defer stop()
		l, err, ok := next()
		if err != nil {
			return err
		}
		if ok {
			heads = append(heads, &head{leaf: l, next: next})
		}
	}
	for len(heads) > 0 {
		least := 0
		for i, h := range heads {
			if h.leaf.Index < heads[least].leaf.Index {
				least = i
			}
		}
		h := heads[least]
		if err := fn(h.leaf); err != nil {
			return err
		}
		l, err, ok := h.next()
		if err != nil {
			return err
		}
		if h.leaf = l; !ok {
			heads = append(heads[:least], heads[least+1:]...)
		}
	}
	return nil
}

// enter writes the entry about this export, which commits to the custody log
// so far, waits until it is numbered, and appends it.
func (e Exporter) enter(ctx context.Context, m manifest.Manifest, envelope []byte, id, actor string, custody *bag.Custody) (time.Time, error) {
	sum, lines := custody.Digest()
	l, err := leaf.New(leaf.Act{Type: bag.ExportedType, Org: m.Org, Actor: actor, Subject: m.Capture, Detail: bag.Exported{
		Export: id, Format: bag.Profile, ManifestSHA256: manifest.SHA256(envelope), Custody: sum, Lines: lines,
	}})
	if err != nil {
		return time.Time{}, err
	}
	if err := e.Store.Update(ctx, func(tx store.Tx) error { return tx.Leaf(ctx, l) }); err != nil {
		return time.Time{}, fmt.Errorf("enter the export: %w", err)
	}
	if l.Index, err = e.Ledger.Await(ctx, l.ID, numbering); err != nil {
		return time.Time{}, fmt.Errorf("enter the export: %w", err)
	}
	return l.Time.Truncate(time.Second), custody.Append(l)
}
