package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/openova-io/bp-relay/services/blob"
	"github.com/openova-io/bp-relay/services/evidence/proof"
)

// What an object store that does not agree with the records shows.
const (
	// Missing: there is no checkpoint although one was published.
	Missing = "missing"
	// Garbled: the object is not a checkpoint signed by this log.
	Garbled = "garbled"
	// Older: a checkpoint of before the newest published one (a rollback).
	Older = "older"
	// Different: a signed checkpoint with another root than the log had at
	// that size.
	Different = "different"
	// Ahead: a signed checkpoint that is larger than the records' log: the
	// records were rolled back.
	Ahead = "ahead"
	// Damaged: a tile or an entry bundle held other bytes than the log's.
	Damaged = "damaged"
)

// Mismatch is what a "log.mismatch" leaf commits to.
type Mismatch struct {
	Kind string `json:"kind"`
	// Key is the damaged object's.
	Key string `json:"key,omitempty"`
	// Object is the hex SHA-256 of what the store showed, "" where nothing.
	Object string `json:"object_sha256,omitempty"`
	// Shown, Published and Size are tree sizes: the shown checkpoint's, the
	// last published one's, and the log's.
	Shown     int64 `json:"shown"`
	Published int64 `json:"published"`
	Size      int64 `json:"size"`
}

// audit compares the checkpoint object with the records. What does not agree
// is logged, gets a leaf (once per finding) and is published again from the
// first entry, except where the store shows more than the records hold:
// overwriting that would destroy the only trace of what was lost.
func (p *publisher) audit(ctx context.Context) error {
	l := p.l
	m, err := l.compare(ctx)
	if err != nil {
		return fmt.Errorf("compare with the published checkpoint: %w", err)
	}
	if m == nil {
		if p.mismatch != "" {
			l.log.InfoContext(ctx, "object store agrees with the log again")
		}
		p.mismatch, p.ahead = "", false
		return nil
	}
	l.log.ErrorContext(ctx, "object store shows another log than the records", "kind", m.Kind,
		"shown", m.Shown, "published", m.Published, "size", m.Size, "object_sha256", m.Object)
	if seen := m.Kind + " " + m.Object; seen != p.mismatch {
		if err := l.add(ctx, TypeMismatch, m); err != nil {
			return err
		}
		p.mismatch = seen
		p.ahead = m.Kind == Ahead
		p.redo = !p.ahead
	}
	return nil
}

// compare returns nil where the object store agrees. It reads the object
// before the row, so that an honest store can only be behind.
func (l *Ledger) compare(ctx context.Context) (*Mismatch, error) {
	obj, err := get(ctx, l.cfg.Blob, l.cfg.Bucket, CheckpointKey, proof.MaxText)
	if err != nil && !errors.Is(err, blob.ErrNotFound) {
		return nil, err
	}
	missing := err != nil
	row, err := l.cfg.Store.Log().Checkpoint(ctx)
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
		return m, nil //nolint:nilerr // this is the finding
	}
	m.Shown = c.Size
	switch {
	case c.Size > row.Size:
		m.Kind = Ahead
		return m, nil
	case c.Size < row.Published:
		m.Kind = Older
		return m, nil
	case c.Size == 0:
		return nil, nil
	}
	root, err := tlog.TreeHash(c.Size, l.cfg.Store.Log().Hashes(ctx))
	if err != nil {
		return nil, fmt.Errorf("root of %d: %w", c.Size, err)
	}
	if root != c.Root {
		m.Kind = Different
		return m, nil
	}
	return nil, nil
}
