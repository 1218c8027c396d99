package capture

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/openova-io/bp-relay/services/format/leaf"
	"github.com/openova-io/bp-relay/services/internal/change"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/records"
)

const (
	// headTick is how often heads that are due are looked for.
	headTick = time.Second
	// headBatch is how many captures' heads one transaction commits: others wait for it
	// for about 30 ms on PostgreSQL.
	headBatch = 200
)

// Head is a stream's newest recorded segment. The leaf "capture.head" holds one
// for each stream, by name.
type Head struct {
	Seq  int64  `json:"seq"`
	Hash string `json:"hash"`
}

// heads writes, at least every 10 s, a leaf with the last hashes of each capture
// that changed. The leaf itself is not signed. It becomes part of the evidence
// log, whose checkpoints are signed: after the next checkpoint, no segment under
// a head can be altered or dropped unnoticed.
func (m *Manager) heads(ctx context.Context) {
	now := time.Now()
	for batch := range slices.Chunk(dueHeads(now, m.snapshot()), headBatch) {
		m.writeHeads(ctx, now, batch)
	}
}

// dueHeads takes the captures whose head is due. So that captures which were
// opened at once do not stay due at once, it takes some before their time, until
// every tick has its part of the work.
func dueHeads(now time.Time, all []*Capture) []*Capture {
	type aged struct {
		*Capture
		age time.Duration
	}
	var changed []aged
	for _, c := range all {
		c.mu.Lock()
		if c.changed {
			changed = append(changed, aged{c, now.Sub(c.headTime)})
		}
		c.mu.Unlock()
	}
	slices.SortStableFunc(changed, func(a, b aged) int { return cmp.Compare(b.age, a.age) })
	part := len(changed) / int(headEvery/headTick)
	var due []*Capture
	for i, c := range changed {
		if c.age < headEvery && (i >= part || c.age < headEvery/2) {
			break
		}
		due = append(due, c.Capture)
	}
	return due
}

// writeHeads commits the heads of these captures together. If that fails for
// another reason than that the records do not answer, it halves the batch: what one
// capture breaks, the others do not feel.
func (m *Manager) writeHeads(ctx context.Context, now time.Time, batch []*Capture) {
	var leaves []headLeaf
	for _, c := range batch {
		c.mu.Lock()
		c.changed = false
		c.mu.Unlock()
		l, err := c.head()
		switch {
		case err != nil:
			m.log.ErrorContext(ctx, "cannot make capture head", "capture", c.name, "error", err)
		case l.Subject == "":
			c.headWritten(now) // it has no segment yet
		default:
			leaves = append(leaves, headLeaf{c, l})
		}
	}
	if len(leaves) == 0 {
		return
	}
	err := m.cfg.Records.Update(ctx, func(tx records.Tx) error {
		for _, h := range leaves {
			mine, err := h.c.stillOwned(ctx, tx)
			if err != nil {
				return err
			}
			if !mine {
				continue // the uploader will find that out, too, and act on it
			}
			// Without a row or an event: nobody waits for a head.
			if err := tx.Leaf(ctx, h.leaf); err != nil {
				return err
			}
		}
		return nil
	})
	switch {
	case err == nil:
		for _, h := range leaves {
			h.c.headWritten(now)
		}
	case len(leaves) > 1 && ctx.Err() == nil && !errors.Is(err, records.ErrUnavailable):
		half := len(batch) / 2
		m.writeHeads(ctx, now, batch[:half])
		m.writeHeads(ctx, now, batch[half:])
	default:
		if ctx.Err() == nil {
			m.log.WarnContext(ctx, "cannot write capture heads; trying again", "captures", len(leaves), "capture", leaves[0].c.name, "error", err)
		}
		for _, h := range leaves {
			h.c.mu.Lock()
			h.c.changed = true
			h.c.mu.Unlock()
		}
	}
}

// headLeaf is a capture's head as it is committed.
type headLeaf struct {
	c    *Capture
	leaf records.Leaf
}

// head makes the leaf; it is zero if the capture has no recorded segment.
func (c *Capture) head() (records.Leaf, error) {
	heads := make(map[string]Head)
	for _, s := range c.Streams() {
		s.mu.Lock()
		if s.stored.Next > 0 {
			heads[s.meta.Name] = Head{Seq: s.stored.Next - 1, Hash: s.stored.Head}
		}
		s.mu.Unlock()
	}
	if len(heads) == 0 {
		return records.Leaf{}, nil
	}
	return change.Leaf(leaf.Act{Type: "capture.head", Org: c.org, Actor: change.Relay, Subject: c.name, Detail: map[string]any{"capture": c.name, "heads": heads}})
}

func (c *Capture) headWritten(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.headTime = now
}

// stillOwned reports whether this process has the capture. The record is not held
// until the commit, as it would have to be for one capture: a head that comes late
// states segments that this process has recorded while it was the owner.
func (c *Capture) stillOwned(ctx context.Context, tx records.Tx) (bool, error) {
	rec, err := tx.Get(ctx, records.Captures, c.name)
	if errors.Is(err, records.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	doc, err := resource.Body[document](rec)
	if err != nil {
		return false, err
	}
	return c.owned(&doc) == nil, nil
}
