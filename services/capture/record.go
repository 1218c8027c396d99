package capture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/openova-io/bp-relay/services/capture/manifest"
	"github.com/openova-io/bp-relay/services/evidence/leaf"
	"github.com/openova-io/bp-relay/services/store"
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
	// Identity is the age identity, sealed by the keyring for this capture's
	// name. Empty where it was destroyed.
	Identity []byte       `json:"identity,omitempty"`
	Start    time.Time    `json:"start"`
	Streams  []streamDoc  `json:"streams,omitempty"`
	Seal     *sealDoc     `json:"seal,omitempty"`
	Manifest *ManifestRef `json:"manifest,omitempty"`
}

type streamDoc struct {
	StreamMeta
	Start time.Time `json:"start"`
	// Bytes, Segments and Head are set when the capture is sealed.
	Bytes    int64  `json:"bytes,omitempty"`
	Segments int64  `json:"segments,omitempty"`
	Head     string `json:"head,omitempty"`
}

// sealDoc is what sealing decided at its begin, so that sealing again after a
// crash makes the same manifest.
type sealDoc struct {
	End       time.Time      `json:"end"`
	Clock     manifest.Clock `json:"clock"`
	Abandoned string         `json:"abandoned,omitempty"`
	// Elsewhere: it is sealed without the spool, by another host.
	Elsewhere bool                      `json:"elsewhere,omitempty"`
	Gaps      map[string][]manifest.Gap `json:"gaps,omitempty"`
}

// act writes the leaf and the event of a mutation.
func act(ctx context.Context, tx store.Tx, org, actor, name, what string, detail any) error {
	if actor == "" {
		actor = "relay"
	}
	l, err := leaf.New(leaf.Act{Type: "capture." + what, Org: org, Actor: actor, Subject: name, Detail: detail})
	if err != nil {
		return fmt.Errorf("leaf of %s: %w", name, err)
	}
	if err := tx.Leaf(ctx, l); err != nil {
		return fmt.Errorf("leaf of %s: %w", name, err)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("event id: %w", err)
	}
	body, err := json.Marshal(detail)
	if err != nil {
		return fmt.Errorf("event of %s: %w", name, err)
	}
	e := store.Event{ID: id.String(), Org: org, Type: "capture." + what, Subject: name, Time: stamp(time.Now()), Body: body}
	if err := tx.Event(ctx, e); err != nil {
		return fmt.Errorf("event of %s: %w", name, err)
	}
	return nil
}

func (m *Manager) insert(ctx context.Context, c *Capture, doc document) error {
	body, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("marshal capture: %w", err)
	}
	err = m.cfg.Store.Update(ctx, func(tx store.Tx) error {
		rec := store.Record{Kind: store.Captures, Name: c.name, Org: c.org, Parent: doc.Owner, State: string(StateActive), Body: body}
		if _, err := tx.Insert(ctx, rec); err != nil {
			return err
		}
		return act(ctx, tx, c.org, doc.Actor, c.name, "opened", map[string]any{
			"owner": doc.Owner, "mode": doc.Mode, "bucket": doc.Bucket, "retention": doc.Retention, "key_id": manifest.SHA256([]byte(doc.Recipient)),
		})
	})
	if err != nil {
		return fmt.Errorf("record capture %s: %w", c.name, err)
	}
	return nil
}

// modify changes a capture's record; fn returns the new state, or "" for no
// change at all.
func (m *Manager) modify(ctx context.Context, name string, fn func(tx store.Tx, doc *document, state State) (State, error)) error {
	for {
		err := m.cfg.Store.Update(ctx, func(tx store.Tx) error {
			rec, doc, err := getDocument(ctx, tx, name)
			if err != nil {
				return err
			}
			state, err := fn(tx, &doc, stateOf(rec))
			if err != nil || state == "" {
				return err
			}
			rec.State = string(state)
			if rec.Body, err = json.Marshal(doc); err != nil {
				return fmt.Errorf("marshal capture: %w", err)
			}
			_, err = tx.Update(ctx, rec)
			return err
		})
		if errors.Is(err, store.ErrConflict) && ctx.Err() == nil {
			continue // another stream of the same capture was first
		}
		if err != nil {
			return fmt.Errorf("update capture %s: %w", name, err)
		}
		return nil
	}
}

func getDocument(ctx context.Context, tx store.Tx, name string) (store.Record, document, error) {
	var doc document
	rec, err := tx.Get(ctx, store.Captures, name)
	if err != nil {
		return rec, doc, err
	}
	if err := json.Unmarshal(rec.Body, &doc); err != nil {
		return rec, doc, fmt.Errorf("record of capture %s: %w", name, err)
	}
	return rec, doc, nil
}

// load reads a capture's record; store.ErrNotFound where there is none.
func (m *Manager) load(ctx context.Context, name string) (State, document, error) {
	var doc document
	var rec store.Record
	err := m.cfg.Store.View(ctx, func(tx store.Tx) (err error) {
		rec, doc, err = getDocument(ctx, tx, name)
		return err
	})
	if err != nil {
		return "", doc, fmt.Errorf("capture %s: %w", name, err)
	}
	return stateOf(rec), doc, nil
}

// addStream writes a new stream into the capture's record.
func (m *Manager) addStream(ctx context.Context, c *Capture, sd streamDoc) error {
	return m.modify(ctx, c.name, func(tx store.Tx, doc *document, state State) (State, error) {
		if state != StateActive {
			return "", fmt.Errorf("%w: %s", ErrSealed, c.name)
		}
		for _, have := range doc.Streams {
			if have.Name == sd.Name {
				return "", nil // the call before this one did not see its own success
			}
		}
		doc.Streams = append(doc.Streams, sd)
		return state, act(ctx, tx, c.org, doc.Actor, c.name, "stream_opened", sd.StreamMeta)
	})
}

func (m *Manager) noteResumed(ctx context.Context, c *Capture) error {
	return m.modify(ctx, c.name, func(tx store.Tx, doc *document, state State) (State, error) {
		if state != StateActive {
			return "", fmt.Errorf("%w: %s", ErrSealed, c.name)
		}
		return state, act(ctx, tx, c.org, "", c.name, "resumed", nil)
	})
}

// headLeaf is a leaf without a row and without an event: heads are evidence,
// not news.
func (m *Manager) headLeaf(ctx context.Context, c *Capture, heads map[string]Head) error {
	l, err := leaf.New(leaf.Act{Type: "capture.head", Org: c.org, Actor: "relay", Subject: c.name, Detail: map[string]any{"capture": c.name, "heads": heads}})
	if err != nil {
		return fmt.Errorf("head of %s: %w", c.name, err)
	}
	if err := m.cfg.Store.Update(ctx, func(tx store.Tx) error { return tx.Leaf(ctx, l) }); err != nil {
		return fmt.Errorf("head of %s: %w", c.name, err)
	}
	return nil
}

// errFork: the record of that number is of another segment than ours.
var errFork = errors.New("capture: the chain was continued elsewhere")

// recordSegment writes a stored segment into its chain. Doing it again with
// the same segment is a success.
func (m *Manager) recordSegment(ctx context.Context, c *Capture, stream string, rec manifest.Record) error {
	body, err := rec.Canonical()
	if err != nil {
		return err
	}
	name := segmentName(c.name, stream, rec.Seq)
	err = m.cfg.Store.Update(ctx, func(tx store.Tx) error {
		have, err := tx.Get(ctx, store.Segments, name)
		if err == nil {
			return sameRecord(have.Body, body)
		}
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		owner, doc, err := getDocument(ctx, tx, c.name)
		if err != nil {
			return err
		}
		if stateOf(owner) == StateSealed {
			return fmt.Errorf("%w: by another replica, without this segment", ErrSealed)
		}
		if doc.Seal != nil && doc.Seal.Elsewhere {
			// Another host is sealing and does not wait for our spool. Of its end
			// and this segment only one can be committed as things are.
			if _, err := tx.Update(ctx, owner); err != nil {
				return err
			}
		}
		// No leaf of its own: it is covered by the next head's (see heads).
		_, err = tx.Insert(ctx, store.Record{Kind: store.Segments, Name: name, Org: c.org, Parent: c.name, Body: body})
		return err
	})
	if err != nil {
		return fmt.Errorf("record %s: %w", name, err)
	}
	return nil
}

// sameRecord compares by content: a store may keep JSON in its own form.
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

// segments calls fn for the recorded segments of a stream, in order, reading
// a page at a time.
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
		var page []store.Record
		err := m.cfg.Store.View(ctx, func(tx store.Tx) (err error) {
			page, err = tx.List(ctx, store.Query{Kind: store.Segments, Org: org, Parent: c, After: after, Limit: 500})
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
