package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/openova-io/bp-relay/services/blob"
	"github.com/openova-io/bp-relay/services/format/proof"
)

// Kinds of mismatches between the object store and the records.
const (
	// Missing: there is no checkpoint, although one was published.
	Missing = "missing"
	// Garbled: the object is not a checkpoint signed by this log.
	Garbled = "garbled"
	// Older: a checkpoint from before the newest published one (a rollback of
	// the store).
	Older = "older"
	// Different: a signed checkpoint whose root is not the log's at that size (a
	// rollback of the records, which have grown again since).
	Different = "different"
	// Ahead: a signed checkpoint larger than the log in the records (a rollback
	// of the records, or a new log under an old key).
	Ahead = "ahead"
	// Foreign: the checkpoint of another log, or of another key.
	Foreign = "foreign"
	// Damaged: the bytes of a tile or an entry bundle are not the log's.
	Damaged = "damaged"
)

// Mismatch is what a "log.mismatch" leaf commits to.
type Mismatch struct {
	Kind string `json:"kind"`
	// Key is the key of a damaged object.
	Key string `json:"key,omitempty"`
	// Object is the hex SHA-256 of the store's checkpoint object, "" if there is
	// none.
	Object string `json:"object_sha256,omitempty"`
	// Shown, Published and Size are tree sizes: of the store's checkpoint, of
	// the last published one, and of the log.
	Shown     int64 `json:"shown"`
	Published int64 `json:"published"`
	Size      int64 `json:"size"`
}

// compare returns nil if the object store matches the records. It reads the
// object before the record, so that an honest store can only be behind.
func (l *Ledger) compare(ctx context.Context) (*Mismatch, error) {
	obj, err := get(ctx, l.cfg.Blob, l.cfg.Bucket, CheckpointKey, proof.MaxText)
	if err != nil && !errors.Is(err, blob.ErrNotFound) {
		return nil, err
	}
	missing := err != nil
	row, err := l.cfg.Records.Log().Checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	m := &Mismatch{Published: row.Published, Size: row.Size}
	if missing {
		if row.Published == 0 {
			return nil, nil
		}
		m.Kind = Missing
		return m, nil
	}
	sum := sha256.Sum256(obj)
	m.Object = hex.EncodeToString(sum[:])
	c, err := proof.Open(obj, l.verify)
	if err != nil {
		m.Kind = Garbled
		if _, foreign := errors.AsType[*note.UnverifiedNoteError](err); foreign {
			m.Kind = Foreign // signed, but not by our key
		}
		return m, nil // this is the finding
	}
	m.Shown = c.Size
	if c.Size > row.Size {
		m.Kind = Ahead
		return m, nil
	}
	if c.Size > 0 {
		root, err := tlog.TreeHash(c.Size, l.cfg.Records.Log().Hashes(ctx))
		if err != nil {
			return nil, fmt.Errorf("root of %d: %w", c.Size, err)
		}
		if root != c.Root {
			m.Kind = Different
			return m, nil
		}
	}
	if c.Size < row.Published {
		m.Kind = Older
		return m, nil
	}
	return nil, nil
}

// late reports whether an older checkpoint in the store is a write that arrived
// late, for example of a sequencer whose connection was slow, and not a rollback
// of the store: then the objects that only the newest published tree has are all
// there.
func (l *Ledger) late(ctx context.Context, published int64) (bool, error) {
	missing := errors.New("missing")
	err := l.resources(ctx, published-1, published, func(key string, body []byte) error {
		got, err := get(ctx, l.cfg.Blob, l.cfg.Bucket, key, int64(len(body)))
		if errors.Is(err, blob.ErrNotFound) || (err == nil && !bytes.Equal(got, body)) {
			return missing
		}
		return err
	})
	if errors.Is(err, missing) {
		return false, nil
	}
	return err == nil, err
}
