package ledger

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/openova-io/bp-relay/services/evidence/proof"
	"github.com/openova-io/bp-relay/services/store"
)

// batch is how many leaves or events one transaction numbers at most.
const batch = 4096

// sequence numbers leaves and events until ctx ends. An outage of the records
// is waited out; being fenced, or a log that must not be signed on, ends the
// term.
func (l *Ledger) sequence(ctx context.Context, fence int64) error {
	if err := l.announce(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	for {
		err := l.step(ctx, fence)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // stopped, and err is only that
		case errors.Is(err, store.ErrFenced), errors.Is(err, ErrKey), errors.Is(err, ErrCorrupt):
			return err
		case err != nil:
			l.log.WarnContext(ctx, "cannot number leaves; trying again", "error", err)
			l.note(func(s *Status) { s.SequenceError = err.Error() })
		default:
			l.note(func(s *Status) { s.SequenceError = "" })
		}
		if !pause(ctx, l.wake, l.cfg.Poll) {
			return nil
		}
	}
}

// step numbers everything that is committed now.
func (l *Ledger) step(ctx context.Context, fence int64) error {
	for {
		n, err := l.cfg.Store.Log().Grow(ctx, fence, batch, l.build)
		if err != nil {
			return fmt.Errorf("number leaves: %w", err)
		}
		if n > 0 {
			poke(l.grown)
		}
		m, err := l.cfg.Store.Log().NumberEvents(ctx, fence, batch)
		if err != nil {
			return fmt.Errorf("number events: %w", err)
		}
		if n < batch && m < batch {
			return nil
		}
	}
}

// build computes the stored hashes of new leaves and signs the new
// checkpoint. It has no side effect: Grow may run it again.
func (l *Ledger) build(old store.Checkpoint, leaves []store.Leaf, kept tlog.HashReader) ([]tlog.Hash, store.Checkpoint, error) {
	tree, err := openTree(old.Size, kept)
	if err != nil {
		return nil, old, err
	}
	if err := l.mayFollow(old, tree); err != nil {
		return nil, old, err
	}
	var fresh []tlog.Hash
	for i, leaf := range leaves {
		hs, err := tlog.StoredHashes(old.Size+int64(i), leaf.Body, tree)
		if err != nil {
			return nil, old, fmt.Errorf("hash leaf %s: %w", leaf.ID, err)
		}
		tree.add(hs)
		fresh = append(fresh, hs...)
	}
	size := old.Size + int64(len(leaves))
	root, err := tlog.TreeHash(size, tree)
	if err != nil {
		return nil, old, fmt.Errorf("root of %d: %w", size, err)
	}
	cp, err := proof.Sign(l.signer, size, root)
	if err != nil {
		return nil, old, err
	}
	l.note(func(s *Status) { s.Sequenced = size })
	next := old // Published and Fence are the store's to keep
	next.Size, next.Root, next.Note = size, root, cp.Note
	return fresh, next, nil
}

// mayFollow refuses to sign after a checkpoint that is not this log's or
// whose root the stored hashes do not give: C2SP tlog-checkpoint, "a log MUST
// not sign any checkpoint which is inconsistent with any checkpoint it
// previously signed".
func (l *Ledger) mayFollow(old store.Checkpoint, tree *edge) error {
	if old.Size == 0 {
		return nil
	}
	c, err := proof.Open(old.Note, l.verify)
	if err != nil {
		return fmt.Errorf("%w: restore the master key that the log was begun with: %w", ErrKey, err)
	}
	root, err := tlog.TreeHash(old.Size, tree)
	if err != nil {
		return fmt.Errorf("root of %d: %w", old.Size, err)
	}
	if c.Size != old.Size || c.Root != old.Root || root != old.Root {
		return fmt.Errorf("%w at size %d", ErrCorrupt, old.Size)
	}
	return nil
}

// edge is the right edge of a tree: the roots of its complete subtrees, which
// is all that appending needs, and what was appended since.
type edge struct {
	next   int64 // storage index of the next appended hash
	hashes map[int64]tlog.Hash
}

// openTree reads the right edge of a tree of that size in one call.
func openTree(size int64, r tlog.HashReader) (*edge, error) {
	var at []int64
	for n, done := size, int64(0); n > 0; {
		level := bits.Len64(uint64(n)) - 1
		at = append(at, tlog.StoredHashIndex(level, done>>uint(level)))
		done += 1 << uint(level)
		n -= 1 << uint(level)
	}
	e := &edge{next: tlog.StoredHashCount(size), hashes: make(map[int64]tlog.Hash, 2*batch)}
	if len(at) == 0 {
		return e, nil
	}
	hs, err := r.ReadHashes(at)
	if err != nil {
		return nil, fmt.Errorf("read the tree's edge: %w", err)
	}
	for i, h := range hs {
		e.hashes[at[i]] = h
	}
	return e, nil
}

func (e *edge) add(hs []tlog.Hash) {
	for _, h := range hs {
		e.hashes[e.next] = h
		e.next++
	}
}

// ReadHashes implements tlog.HashReader over the edge.
func (e *edge) ReadHashes(at []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(at))
	for i, x := range at {
		h, ok := e.hashes[x]
		if !ok {
			return nil, fmt.Errorf("hash %d is not at the tree's edge", x)
		}
		out[i] = h
	}
	return out, nil
}

// Await waits, at most for d, until the leaf is numbered, and returns its
// index. It works on every replica, also on one that is not the sequencer.
func (l *Ledger) Await(ctx context.Context, leafID string, d time.Duration) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for wait := 2 * time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		l.Wake()
		leaf, err := l.cfg.Store.Log().LeafByID(ctx, leafID)
		if err == nil && leaf.Index >= 0 {
			return leaf.Index, nil
		}
		if err != nil && ctx.Err() == nil {
			return -1, fmt.Errorf("look up leaf: %w", err)
		}
		if !pause(ctx, nil, wait) {
			return -1, fmt.Errorf("%w: waited %s", ErrPending, d)
		}
	}
}
