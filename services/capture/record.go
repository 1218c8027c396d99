package capture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/openova-io/bp-relay/services/format/manifest"
	"github.com/openova-io/bp-relay/services/internal/change"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/records"
)

// document is the body of a capture's record.
type document struct {
	Owner      string            `json:"owner"`
	Bucket     string            `json:"bucket"`
	Retention  string            `json:"retention,omitempty"`
	Mode       Mode              `json:"mode"`
	Actor      string            `json:"actor,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
	Recipient  string            `json:"recipient"`
	// Identity is the age identity, encrypted by the key ring for this capture's
	// name. It is empty if it was destroyed.
	Identity []byte `json:"identity,omitempty"`
	// Replica is the process that may write for the capture: the one whose spool
	// it is in, or that seals it without. Epoch grows with each such process: a
	// write of an earlier one is refused.
	Replica  string       `json:"replica,omitempty"`
	Epoch    int64        `json:"epoch,omitempty"`
	Start    time.Time    `json:"start"`
	Streams  []streamDoc  `json:"streams,omitempty"`
	Seal     *sealDoc     `json:"seal,omitempty"`
	Manifest *ManifestRef `json:"manifest,omitempty"`
}

type streamDoc struct {
	StreamMeta
	Start time.Time `json:"start"`
	// Bytes, Segments and Head are set at sealing.
	Bytes    int64  `json:"bytes,omitempty"`
	Segments int64  `json:"segments,omitempty"`
	Head     string `json:"head,omitempty"`
}

// sealDoc is what sealing decides at its start. It is recorded, so that sealing
// again after a crash makes the same manifest.
type sealDoc struct {
	End       time.Time                 `json:"end"`
	Clock     manifest.Clock            `json:"clock"`
	Abandoned string                    `json:"abandoned,omitempty"`
	Gaps      map[string][]manifest.Gap `json:"gaps,omitempty"`
}

// note writes the event and the leaf of a mutation. An empty actor is relay.
func note(ctx context.Context, tx records.Tx, what, actor, name string, detail any) error {
	if actor == "" {
		actor = change.Relay
	}
	if err := change.Note(ctx, tx, "capture."+what, actor, name, detail); err != nil {
		return fmt.Errorf("note that %s was %s: %w", name, what, err)
	}
	return nil
}

func (m *Manager) insert(ctx context.Context, c *Capture, doc document) error {
	body, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("marshal capture: %w", err)
	}
	err = m.cfg.Records.Update(ctx, func(tx records.Tx) error {
		rec := records.Record{Kind: records.Captures, Name: c.name, Org: c.org, Parent: doc.Owner, State: string(StateActive), Body: body}
		if _, err := tx.Insert(ctx, rec); err != nil {
			return err
		}
		return note(ctx, tx, "opened", doc.Actor, c.name, map[string]any{
			"owner": doc.Owner, "mode": doc.Mode, "bucket": doc.Bucket, "retention": doc.Retention, "key_id": manifest.SHA256([]byte(doc.Recipient)),
			"start": doc.Start,
		})
	})
	if err != nil {
		return fmt.Errorf("record capture %s: %w", c.name, err)
	}
	return nil
}

// insertOnce is insert, and finds out what happened if the records do not say: a
// capture that exists without its process knowing it could only be found again by
// the next one.
func (m *Manager) insertOnce(ctx context.Context, c *Capture, doc document) error {
	err := m.insert(ctx, c, doc)
	if err == nil || errors.Is(err, records.ErrExists) || errors.Is(err, records.ErrInvalid) {
		return err
	}
	pause := newBackoff()
	for range 6 { // about 6 s
		_, have, lerr := m.load(ctx, c.name)
		switch {
		case lerr == nil && have.Recipient == doc.Recipient:
			return nil
		case errors.Is(lerr, records.ErrNotFound):
			return errors.Join(err, os.RemoveAll(c.dir))
		}
		if sleep(ctx, pause.NextBackOff()) != nil {
			break
		}
	}
	return err
}

// modify changes a capture's record. fn returns the new state, or "" to change
// nothing. The record is locked before fn reads anything: what fn finds, other
// transactions have committed, and none that depends on the record can follow
// before this one ends.
func (m *Manager) modify(ctx context.Context, name string, fn func(tx records.Tx, doc *document, state State) (State, error)) error {
	for {
		err := m.cfg.Records.Update(ctx, func(tx records.Tx) error {
			rec, err := tx.Lock(ctx, records.Captures, name)
			if err != nil {
				return err
			}
			doc, err := resource.Body[document](rec)
			if err != nil {
				return err
			}
			state, err := fn(tx, &doc, stateOf(rec))
			if err != nil || state == "" {
				return err
			}
			rec.State = string(state)
			if rec.Body, err = resource.Encode(rec.Body, doc); err != nil {
				return fmt.Errorf("marshal capture: %w", err)
			}
			_, err = tx.Update(ctx, rec)
			return err
		})
		if errors.Is(err, records.ErrConflict) && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return fmt.Errorf("update capture %s: %w", name, err)
		}
		return nil
	}
}

// change is modify for the process that owns the capture: if another one has
// taken it over, change fails with records.ErrFenced.
func (c *Capture) change(ctx context.Context, fn func(tx records.Tx, doc *document, state State) (State, error)) error {
	return c.m.modify(ctx, c.name, func(tx records.Tx, doc *document, state State) (State, error) {
		if err := c.owned(doc); err != nil {
			return "", err
		}
		return fn(tx, doc, state)
	})
}

// owned returns records.ErrFenced unless this process owns the capture.
func (c *Capture) owned(doc *document) error {
	if epoch := c.epoch.Load(); doc.Replica != c.m.replica.ID() || doc.Epoch != epoch {
		return fmt.Errorf("%w: capture %s belongs to replica %q since epoch %d; this one had epoch %d", records.ErrFenced, c.name, doc.Replica, doc.Epoch, epoch)
	}
	return nil
}

// take makes this process the owner of a capture that is not sealed. The process
// that owned it before can write nothing for it any more.
func (c *Capture) take(ctx context.Context) error {
	me := c.m.replica.ID()
	return c.m.modify(ctx, c.name, func(_ records.Tx, doc *document, state State) (State, error) {
		switch {
		case state == StateSealed:
			return "", fmt.Errorf("%w: %s", ErrSealed, c.name)
		case doc.Replica == me: // also if an earlier call succeeded without knowing it
			c.epoch.Store(doc.Epoch)
			return "", nil
		}
		doc.Replica, doc.Epoch = me, doc.Epoch+1
		c.epoch.Store(doc.Epoch)
		return state, nil
	})
}

// load reads a capture's record. It returns records.ErrNotFound if there is
// none.
func (m *Manager) load(ctx context.Context, name string) (State, document, error) {
	var rec records.Record
	err := m.cfg.Records.View(ctx, func(tx records.Tx) (err error) {
		rec, err = tx.Get(ctx, records.Captures, name)
		return err
	})
	if err != nil {
		return "", document{}, fmt.Errorf("capture %s: %w", name, err)
	}
	doc, err := resource.Body[document](rec)
	return stateOf(rec), doc, err
}

// addStreams adds the entries of streams that doc lacks, and reports whether
// there were any.
func addStreams(ctx context.Context, tx records.Tx, name string, doc *document, streams []*Stream) (added bool, err error) {
	for _, s := range streams {
		if slices.ContainsFunc(doc.Streams, func(have streamDoc) bool { return have.Name == s.meta.Name }) {
			continue // an earlier call succeeded without knowing it
		}
		doc.Streams, added = append(doc.Streams, s.doc), true
		if err := note(ctx, tx, "stream_opened", doc.Actor, name, s.meta); err != nil {
			return added, err
		}
	}
	return added, nil
}

// withNewStreams calls fn with the streams that are only in the spool so far. If
// fn succeeds, the record has them.
func (c *Capture) withNewStreams(fn func(fresh []*Stream) error) error {
	c.recording.Lock()
	defer c.recording.Unlock()
	var fresh []*Stream
	for _, s := range c.Streams() {
		if !s.recorded {
			fresh = append(fresh, s)
		}
	}
	if err := fn(fresh); err != nil {
		return err
	}
	for _, s := range fresh {
		s.recorded = true
	}
	return nil
}

// recordStreams writes all streams that are only in the spool so far into the
// capture's record: the streams of a room that fills up share few transactions.
func (c *Capture) recordStreams(ctx context.Context) error {
	return c.withNewStreams(func(fresh []*Stream) error {
		if len(fresh) == 0 {
			return nil
		}
		return c.change(ctx, func(tx records.Tx, doc *document, state State) (State, error) {
			added, err := addStreams(ctx, tx, c.name, doc, fresh)
			switch {
			case err != nil || !added:
				return "", err
			case state == StateSealed:
				return "", fmt.Errorf("%w by another replica, without these streams", ErrSealed)
			}
			return state, nil
		})
	})
}

func (c *Capture) noteResumed(ctx context.Context) error {
	return c.change(ctx, func(tx records.Tx, doc *document, state State) (State, error) {
		if state != StateActive {
			return "", fmt.Errorf("%w: %s", ErrSealed, c.name)
		}
		return state, note(ctx, tx, "resumed", "", c.name, nil)
	})
}

// errFork: the record with this number is of another segment.
var errFork = errors.New("capture: another process continued the chain")

// recordSegment adds a stored segment to its chain. It succeeds if that very
// segment is recorded already, and returns errFork if another one is.
func (m *Manager) recordSegment(ctx context.Context, c *Capture, stream string, rec manifest.Record) error {
	body, err := rec.Canonical()
	if err != nil {
		return err
	}
	name := segmentName(c.name, stream, rec.Seq)
	err = m.cfg.Records.Update(ctx, func(tx records.Tx) error {
		// Segments of many streams are committed side by side, but none beside the
		// sealing of their capture: otherwise both would find the other undone, and
		// the manifest would lack a segment whose spool file is deleted.
		owner, err := tx.Share(ctx, records.Captures, c.name)
		if err != nil {
			return err
		}
		have, err := tx.Get(ctx, records.Segments, name)
		if err == nil {
			return sameRecord(have.Body, body)
		}
		if !errors.Is(err, records.ErrNotFound) {
			return err
		}
		if stateOf(owner) == StateSealed {
			return fmt.Errorf("%w by another replica, without this segment", ErrSealed)
		}
		doc, err := resource.Body[document](owner)
		if err != nil {
			return err
		}
		if err := c.owned(&doc); err != nil {
			return err
		}
		if err := m.cfg.hook("segment"); err != nil {
			return err
		}
		// Without a leaf: the next head covers the segment (see heads).
		_, err = tx.Insert(ctx, records.Record{Kind: records.Segments, Name: name, Org: c.org, Parent: c.name, Body: body})
		return err
	})
	if err != nil {
		return fmt.Errorf("record %s: %w", name, err)
	}
	return nil
}

// sameRecord compares by content: a database may reformat JSON.
func sameRecord(have, want []byte) error {
	var rec manifest.Record
	if err := json.Unmarshal(have, &rec); err != nil {
		return fmt.Errorf("stored segment record: %w", err)
	}
	got, err := rec.Canonical()
	if err != nil {
		return err
	}
	if string(got) != string(want) {
		return fmt.Errorf("%w: segment %d", errFork, rec.Seq)
	}
	return nil
}

// segments calls fn for the recorded segments of a stream from number from on,
// in order. It reads them in pages.
func (m *Manager) segments(ctx context.Context, c, stream string, from int64, fn func(manifest.Record) error) error {
	org, _, err := split(c)
	if err != nil {
		return err
	}
	prefix := segmentPrefix(c, stream)
	after := prefix
	if from > 0 {
		after = segmentName(c, stream, from-1)
	}
	for {
		var page []records.Record
		err := m.cfg.Records.View(ctx, func(tx records.Tx) (err error) {
			page, err = tx.List(ctx, records.Query{Kind: records.Segments, Org: org, Parent: c, After: after, Limit: 500})
			return err
		})
		if err != nil {
			return fmt.Errorf("list segments of %s: %w", c, err)
		}
		for _, r := range page {
			if !strings.HasPrefix(r.Name, prefix) {
				return nil
			}
			after = r.Name
			var rec manifest.Record
			if err := json.Unmarshal(r.Body, &rec); err != nil {
				return fmt.Errorf("record %s: %w", r.Name, err)
			}
			if err := fn(rec); err != nil {
				return err
			}
		}
		if len(page) < 500 {
			return nil
		}
	}
}
