package ledger

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/format/proof"
	"github.com/openova-io/bp-relay/services/records"
)

// batch is the most leaves or events that one transaction numbers.
const batch = 4096

// sequence numbers leaves and events until ctx ends. While the records are
// unreachable it retries. It returns an error if it is fenced, or if the log
// must not be signed any more. Events are numbered even while the gate is
// closed: nothing about them is signed.
func (l *Ledger) sequence(ctx context.Context, fence int64, gate *gate) error {
	if err := l.announce(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	for {
		err := l.step(ctx, fence, gate)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // err is the consequence of stopping
		case errors.Is(err, errRolledBack):
			l.log.ErrorContext(ctx, "the records have lost entries of the log; nothing is signed before the object store was compared", "error", err)
			gate.doubt()
			poke(l.grown) // the publisher compares
		case errors.Is(err, records.ErrFenced), errors.Is(err, ErrKey), errors.Is(err, ErrCorrupt):
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

// step numbers all that is committed now: events, and leaves if the gate is
// open.
func (l *Ledger) step(ctx context.Context, fence int64, gate *gate) error {
	for {
		n, err := l.grow(ctx, fence, gate)
		if err != nil && !errors.Is(err, errRolledBack) {
			return err
		}
		rolledBack := err
		m, err := l.cfg.Records.Log().NumberEvents(ctx, fence, batch)
		if err != nil {
			return fmt.Errorf("number events: %w", err)
		}
		if m > 0 {
			l.tell(ctx)
		}
		if rolledBack != nil || (n < batch && m < batch) {
			return rolledBack
		}
	}
}

// tell wakes those who watch events. A hint that is lost costs them a second.
func (l *Ledger) tell(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_ = l.cfg.Bus.Publish(ctx, bus.EventsNumbered, nil)
}

// grow numbers leaves if the gate is open.
func (l *Ledger) grow(ctx context.Context, fence int64, gate *gate) (int, error) {
	if !gate.open() {
		return 0, nil
	}
	var signed records.Checkpoint
	n, err := l.cfg.Records.Log().Grow(ctx, fence, batch,
		func(old records.Checkpoint, leaves []records.Leaf, kept tlog.HashReader) (hashes []tlog.Hash, next records.Checkpoint, err error) {
			if err := gate.follows(old); err != nil {
				return nil, old, err
			}
			hashes, signed, err = l.build(old, leaves, kept)
			return hashes, signed, err
		})
	if err != nil {
		return 0, fmt.Errorf("number leaves: %w", err)
	}
	if n > 0 {
		gate.signed(signed)
		poke(l.grown)
	}
	return n, nil
}

// build computes the stored hashes of new leaves and signs the new checkpoint.
// The records' Grow may call it again for the same leaves.
func (l *Ledger) build(old records.Checkpoint, leaves []records.Leaf, kept tlog.HashReader) ([]tlog.Hash, records.Checkpoint, error) {
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
	next := old // the records keep Published and Fence
	next.Size, next.Root, next.Note = size, root, cp.Note
	return fresh, next, nil
}

// mayFollow returns ErrKey or ErrCorrupt if the last checkpoint is not this
// log's, or if the stored hashes do not give its root. C2SP tlog-checkpoint: "a
// log MUST not sign any checkpoint which is inconsistent with any checkpoint it
// previously signed".
func (l *Ledger) mayFollow(old records.Checkpoint, tree *edge) error {
	if old.Size == 0 {
		return nil
	}
	c, err := proof.Open(old.Note, l.verify)
	if err != nil {
		return fmt.Errorf("%w: restore the master key with which the log was created: %w", ErrKey, err)
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
// are all that appending needs, and the hashes appended since.
type edge struct {
	next   int64 // storage index of the next appended hash
	hashes map[int64]tlog.Hash
}

// openTree reads the right edge of a tree in one call.
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

// ReadHashes implements tlog.HashReader for the edge.
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

// Await waits until the leaf is numbered and returns its index. It returns
// ErrPending after d. It works on every replica, not only on the sequencer.
func (l *Ledger) Await(ctx context.Context, leafID string, d time.Duration) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for wait := 2 * time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		l.Wake()
		leaf, err := l.cfg.Records.Log().LeafByID(ctx, leafID)
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
