package ledger

import (
	"context"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/openova-io/bp-relay/services/format/proof"
)

// Checkpoint returns the newest signed checkpoint. In an empty log, it has an
// origin only.
func (l *Ledger) Checkpoint(ctx context.Context) (proof.Checkpoint, error) {
	row, err := l.cfg.Records.Log().Checkpoint(ctx)
	if err != nil {
		return proof.Checkpoint{}, fmt.Errorf("read checkpoint: %w", err)
	}
	if row.Size == 0 {
		return proof.Checkpoint{Origin: l.cfg.Origin}, nil
	}
	return proof.Checkpoint{Origin: l.cfg.Origin, Size: row.Size, Root: row.Root, Note: row.Note}, nil
}

// InclusionProof proves that a leaf is in the newest checkpoint. It returns
// records.ErrNotFound if there is no such leaf, and ErrPending if the leaf is
// not numbered yet.
func (l *Ledger) InclusionProof(ctx context.Context, leafID string) (proof.Inclusion, error) {
	leaf, err := l.cfg.Records.Log().LeafByID(ctx, leafID)
	if err != nil {
		return proof.Inclusion{}, fmt.Errorf("look up leaf: %w", err)
	}
	if leaf.Index < 0 {
		return proof.Inclusion{}, ErrPending
	}
	cp, err := l.Checkpoint(ctx)
	if err != nil {
		return proof.Inclusion{}, err
	}
	return l.ProveIn(ctx, cp, leaf.Index)
}

// ProveIn proves that the entry at index is in a given checkpoint of this log.
// It returns ErrSize if the checkpoint's tree has no such index.
func (l *Ledger) ProveIn(ctx context.Context, cp proof.Checkpoint, index int64) (proof.Inclusion, error) {
	if index < 0 || index >= cp.Size {
		return proof.Inclusion{}, fmt.Errorf("%w: index %d in a tree of %d", ErrSize, index, cp.Size)
	}
	path, err := tlog.ProveRecord(cp.Size, index, l.cfg.Records.Log().Hashes(ctx))
	if err != nil {
		return proof.Inclusion{}, fmt.Errorf("prove entry %d in %d: %w", index, cp.Size, err)
	}
	return proof.Inclusion{Index: index, Path: path, Note: cp.Note}, nil
}

// ConsistencyProof proves that the newest checkpoint extends the tree of an
// older size. It returns ErrSize unless old is 0 to the newest size, and if the
// log is empty.
func (l *Ledger) ConsistencyProof(ctx context.Context, old int64) (proof.Consistency, error) {
	cp, err := l.Checkpoint(ctx)
	if err != nil {
		return proof.Consistency{}, err
	}
	if old < 0 || old > cp.Size || cp.Size == 0 {
		return proof.Consistency{}, fmt.Errorf("%w: %d, the log has %d", ErrSize, old, cp.Size)
	}
	p := proof.Consistency{Old: old, Note: cp.Note}
	if old == 0 {
		return p, nil
	}
	path, err := tlog.ProveTree(cp.Size, old, l.cfg.Records.Log().Hashes(ctx))
	if err != nil {
		return p, fmt.Errorf("prove that %d extends %d: %w", cp.Size, old, err)
	}
	p.Path = path
	return p, nil
}
