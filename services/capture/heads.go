package capture

import (
	"context"
	"errors"
	"time"

	"github.com/openova-io/bp-relay/services/records"
)

// heads writes, at least every 10 s, a leaf with the last hashes of each capture
// that changed. The leaf itself is not signed. It becomes part of the evidence
// log, whose checkpoints are signed: after the next checkpoint, no segment under
// a head can be altered or dropped unnoticed.
func (m *Manager) heads(ctx context.Context) {
	now := time.Now()
	for _, c := range m.snapshot() {
		c.mu.Lock()
		due := c.changed && now.Sub(c.headTime) >= headEvery
		if due {
			c.changed = false
		}
		c.mu.Unlock()
		if !due {
			continue
		}
		if err := c.writeHead(ctx); err != nil {
			if ctx.Err() == nil && !errors.Is(err, records.ErrNotFound) {
				m.log.WarnContext(ctx, "cannot write capture head; trying again", "capture", c.name, "error", err)
			}
			c.mu.Lock()
			c.changed = true
			c.mu.Unlock()
			continue
		}
		c.mu.Lock()
		c.headTime = now
		c.mu.Unlock()
	}
}

// Head is a stream's newest recorded segment. The leaf "capture.head" holds one
// for each stream, by name.
type Head struct {
	Seq  int64  `json:"seq"`
	Hash string `json:"hash"`
}

func (c *Capture) writeHead(ctx context.Context) error {
	heads := make(map[string]Head)
	for _, s := range c.Streams() {
		s.mu.Lock()
		if s.stored.Next > 0 {
			heads[s.meta.Name] = Head{Seq: s.stored.Next - 1, Hash: s.stored.Head}
		}
		s.mu.Unlock()
	}
	if len(heads) == 0 {
		return nil
	}
	return c.m.headLeaf(ctx, c, heads)
}
