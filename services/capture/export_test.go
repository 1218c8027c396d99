package capture

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"filippo.io/age"

	"github.com/openova-io/bp-relay/services/records"
)

// SetHook makes the manager call fn at named points; an error stops the work
// there.
func (c *Config) SetHook(fn func(point string) error) { c.hook = fn }

// ErrHook from a hook leaves everything as a crash at that point would.
var ErrHook = errHook

// SpoolUsed is the number of bytes counted in the spool.
func (m *Manager) SpoolUsed() int64 { return m.Usage().Used }

// SetMaxObject splits manifests that are longer than n bytes.
func (c *Config) SetMaxObject(n int) { c.maxObject = n }

// Dirty reports whether anything that was appended is not flushed yet.
func (s *Stream) Dirty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.queue {
		if f.cipherPath == "" && f.dirty.Load() {
			return true
		}
	}
	return s.cur != nil && s.cur.dirty.Load()
}

// HeadBatch is how many heads one transaction commits.
const HeadBatch = headBatch

// AddRecorded adds captures that each have a stream with one recorded segment, as
// far as heads are concerned, without a spool folder.
func (m *Manager) AddRecorded(ctx context.Context, org string, ids []string) error {
	identity, err := age.GenerateHybridIdentity()
	if err != nil {
		return err
	}
	doc := document{Owner: "orgs/" + org + "/recordings/r", Mode: Required, Recipient: identity.Recipient().String(), Replica: m.replica.ID(), Epoch: 1}
	body, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	for part := range slices.Chunk(ids, 500) {
		err := m.cfg.Records.Update(ctx, func(tx records.Tx) error {
			for _, id := range part {
				rec := records.Record{Kind: records.Captures, Name: "orgs/" + org + "/captures/" + id, Org: org, Parent: doc.Owner, State: string(StateActive), Body: body}
				if _, err := tx.Insert(ctx, rec); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, id := range ids {
		c, err := m.newCapture("orgs/"+org+"/captures/"+id, doc)
		if err != nil {
			return err
		}
		c.dir = ""
		c.epoch.Store(1)
		s := newStream(c, streamDoc{StreamMeta: StreamMeta{Name: "video"}})
		s.recorded, s.stored.Next, s.stored.Head = true, 1, id
		c.streams, c.changed = []*Stream{s}, true
		if err := m.claim(c); err != nil {
			return err
		}
	}
	return nil
}

// Change marks every capture as changed since its head.
func (m *Manager) Change() {
	for _, c := range m.snapshot() {
		c.noteChange()
	}
}

// WriteHeads writes all heads that are due, as if d had gone by.
func (m *Manager) WriteHeads(ctx context.Context, d time.Duration) {
	for _, c := range m.snapshot() {
		c.mu.Lock()
		c.headTime = c.headTime.Add(-d)
		c.mu.Unlock()
	}
	m.heads(ctx)
}
