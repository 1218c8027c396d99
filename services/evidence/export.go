package evidence

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/google/uuid"

	"github.com/openova-io/bp-relay/services/blob"
	"github.com/openova-io/bp-relay/services/evidence/ledger"
	"github.com/openova-io/bp-relay/services/format/bag"
	"github.com/openova-io/bp-relay/services/format/leaf"
	"github.com/openova-io/bp-relay/services/format/manifest"
	"github.com/openova-io/bp-relay/services/format/proof"
	"github.com/openova-io/bp-relay/services/internal/change"
	"github.com/openova-io/bp-relay/services/records"
)

// numbering bounds the time in which an export's entries must get into a signed
// checkpoint. Normally that takes milliseconds.
const numbering = 15 * time.Second

// Captures reads sealed captures. *capture.Manager is one.
type Captures interface {
	// Manifest returns a capture's manifest and its signed envelope exactly as
	// stored. It fails with capture.ErrNotSealed until the capture is sealed,
	// and with records.ErrNotFound if there is no such capture.
	Manifest(ctx context.Context, name string) (manifest.Manifest, []byte, error)
	bag.Media
}

// Exporter makes bags.
type Exporter struct {
	Records  records.DB
	Ledger   *ledger.Ledger
	Captures Captures
	// Signer signs bags; the ledger's Signing must hold its public key with
	// proof.BagPurpose.
	Signer ed25519.PrivateKey
	// Scratch is the folder for temporary files; "" is the system's.
	Scratch string
}

// Export writes the bag of a capture to w. The entry that names the actor is
// in the log, and provable, before the first byte is written; if it cannot be,
// Export returns ledger.ErrPending. Segments that the store has lost are stated
// in the bag, and in an entry of the log. After an error, w has an incomplete
// bag, which does not verify; a retry makes a new one.
func (e Exporter) Export(ctx context.Context, capture, actor string, w io.Writer) (Exported, error) {
	m, envelope, err := e.Captures.Manifest(ctx, capture)
	if err != nil {
		return Exported{}, err
	}
	custody, err := bag.NewCustody(e.Scratch)
	if err != nil {
		return Exported{}, err
	}
	defer func() { _ = custody.Close() }() // a temporary file
	found, err := e.collect(ctx, m, custody)
	if err != nil {
		return Exported{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Exported{}, fmt.Errorf("export id: %w", err)
	}
	at, err := e.enter(ctx, m, envelope, id.String(), actor, custody)
	if err != nil {
		return Exported{}, err
	}
	cp, err := e.Ledger.Checkpoint(ctx)
	if err != nil {
		return Exported{}, err
	}
	if _, last := custody.Last(); cp.Size <= last {
		return Exported{}, fmt.Errorf("%w: checkpoint of %d entries", ledger.ErrPending, cp.Size)
	}
	damaged, err := bag.Write(ctx, w, bag.Input{
		Export: id.String(), Time: at, Manifest: m, Envelope: envelope, Custody: custody, Checkpoint: cp,
		VerifierKey: e.Ledger.VerifierKey(), Keys: found.keys, Media: e.Captures, Signer: e.Signer, Scratch: e.Scratch,
		Target: found.target, Fatal: func(err error) bool { return errors.Is(err, blob.ErrRecalling) },
		Prove: func(ctx context.Context, index int64) (proof.Inclusion, error) {
			return e.Ledger.ProveIn(ctx, cp, index)
		},
	})
	if err != nil || len(damaged) == 0 {
		return Exported{ID: id.String()}, err
	}
	return Exported{ID: id.String(), Damaged: damaged}, e.noteDamage(ctx, m, id.String(), damaged)
}

// Exported is what an export did.
type Exported struct {
	// ID is the bag's id.
	ID string
	// Damaged is what the bag lacks, as it states itself.
	Damaged []bag.Damage
}

// damagedType is the type of the entry that an export found damage.
const damagedType = "capture.damaged"

// maxNoted bounds how many damaged segments an entry lists.
const maxNoted = 100

// noteDamage writes the entry that the store has lost segments, so that later
// exports show it, too.
func (e Exporter) noteDamage(ctx context.Context, m manifest.Manifest, id string, damaged []bag.Damage) error {
	l, err := change.Leaf(leaf.Act{Type: damagedType, Org: m.Org, Actor: change.Relay, Subject: m.Capture, Detail: map[string]any{
		"export": id, "count": len(damaged), "damaged": damaged[:min(len(damaged), maxNoted)],
	}})
	if err != nil {
		return err
	}
	if err := e.Records.Update(ctx, func(tx records.Tx) error { return tx.Leaf(ctx, l) }); err != nil {
		return fmt.Errorf("write the leaf of the damage: %w", err)
	}
	return nil
}

// found is what collect took from the entries.
type found struct {
	keys   []proof.Key
	target *bag.Target // nil if there is none
}

// collect writes the custody log: all entries about the capture and its owner,
// and those that vouch for keys. An entry whose details are not those that it
// commits to is written without them: its proof shows that it is there, and the
// verifier names it.
func (e Exporter) collect(ctx context.Context, m manifest.Manifest, custody *bag.Custody) (found, error) {
	var out found
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err := merge(func(l records.Leaf) error {
		b, o, err := leaf.Open(l.Body, l.Opening)
		if errors.Is(err, leaf.ErrMismatch) {
			l.Opening = nil
			b, o, err = leaf.Open(l.Body, nil)
		}
		if err != nil {
			return fmt.Errorf("entry %d: %w", l.Index, err)
		}
		if l.Subject == proof.LogSubject && b.Type != proof.KeyType {
			return nil
		}
		if err := out.take(l, b, o, m); err != nil {
			return fmt.Errorf("entry %d: %w", l.Index, err)
		}
		return custody.Append(leaf.Leaf(l))
	}, e.leaves(ctx, m.Org, m.Capture), e.leaves(ctx, m.Org, m.Owner), e.leaves(ctx, "", proof.LogSubject))
	if err != nil {
		return out, fmt.Errorf("custody log of %s: %w", m.Capture, err)
	}
	return out, nil
}

// take takes what the bag needs from an entry.
func (f *found) take(l records.Leaf, b leaf.Body, o leaf.Opening, m manifest.Manifest) error {
	switch {
	case len(l.Opening) == 0: // nothing is known
	case l.Subject == proof.LogSubject:
		k, err := keyOf(o)
		if err != nil {
			return err
		}
		f.keys = append(f.keys, k)
	case b.Type == bag.TargetType && l.ID == m.Attributes[bag.TargetEntry]:
		t := &bag.Target{}
		if err := json.Unmarshal(o.Detail, t); err != nil {
			return fmt.Errorf("target: %w", err)
		}
		f.target = t
	}
	return nil
}

// leaves returns a subject's leaves in the order of the index. It waits for
// those that are not numbered yet.
func (e Exporter) leaves(ctx context.Context, org, subject string) iter.Seq2[records.Leaf, error] {
	return func(yield func(records.Leaf, error) bool) {
		if subject == "" {
			return
		}
		stop := errors.New("stop")
		err := e.Ledger.EachOf(ctx, org, subject, func(l records.Leaf) error {
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
			yield(records.Leaf{}, err)
		}
	}
}

// merge calls fn for the leaves of all sequences, in the order of the index.
func merge(fn func(records.Leaf) error, seqs ...iter.Seq2[records.Leaf, error]) error {
	type head struct {
		leaf records.Leaf
		next func() (records.Leaf, error, bool)
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

// enter writes the entry about this export, which commits to the custody log so
// far, waits until it is numbered, and appends it to the custody log.
func (e Exporter) enter(ctx context.Context, m manifest.Manifest, envelope []byte, id, actor string, custody *bag.Custody) (time.Time, error) {
	sum, lines := custody.Digest()
	l, err := change.Leaf(leaf.Act{Type: bag.ExportedType, Org: m.Org, Actor: actor, Subject: m.Capture, Detail: bag.Exported{
		Export: id, Format: bag.Profile, ManifestSHA256: manifest.SHA256(envelope), Custody: sum, Lines: lines,
	}})
	if err != nil {
		return time.Time{}, err
	}
	if err := e.Records.Update(ctx, func(tx records.Tx) error { return tx.Leaf(ctx, l) }); err != nil {
		return time.Time{}, fmt.Errorf("write the export's leaf: %w", err)
	}
	if l.Index, err = e.Ledger.Await(ctx, l.ID, numbering); err != nil {
		return time.Time{}, fmt.Errorf("number the export's leaf: %w", err)
	}
	return l.Time.Truncate(time.Second), custody.Append(leaf.Leaf(l))
}
