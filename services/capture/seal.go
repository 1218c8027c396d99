package capture

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/openova-io/bp-relay/services/capture/manifest"
	"github.com/openova-io/bp-relay/services/store"
)

// Seal ends the capture: it waits until everything is stored and read back,
// writes the signed manifest, and returns it. It may be called again, and by
// several callers: all get the same manifest. When ctx ends first the sealing
// goes on behind it, and after a restart too.
func (c *Capture) Seal(ctx context.Context) (manifest.Manifest, error) {
	return c.seal(ctx, "")
}

// SealAbandoned finishes a capture that nobody will resume: with what the
// spool on this host has, else with what is stored. The reason goes into the
// manifest, and each stream that was not closed gets a gap from its last byte
// on. It is a success where the capture is sealed already.
func (m *Manager) SealAbandoned(ctx context.Context, name, reason string) error {
	if err := m.waitReady(ctx); err != nil {
		return err
	}
	if reason == "" {
		reason = "abandoned"
	}
	c := m.local(name)
	if c == nil {
		state, doc, err := m.load(ctx, name)
		if err != nil || state == StateSealed {
			return err
		}
		if c, err = m.newCapture(name, doc); err != nil {
			return err
		}
		c.dir = ""
		if err := m.claim(c); err != nil {
			return err // a call at the same time was first, and is at it
		}
	}
	_, err := c.seal(ctx, reason)
	return err
}

func (c *Capture) seal(ctx context.Context, abandoned string) (manifest.Manifest, error) {
	c.beginSeal(abandoned)
	select {
	case <-c.sealed:
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.result, nil
	case <-c.m.done:
		return manifest.Manifest{}, fmt.Errorf("%w: the manager has stopped; the next one goes on sealing %s", ErrClosed, c.name)
	case <-ctx.Done():
		c.mu.Lock()
		defer c.mu.Unlock()
		return manifest.Manifest{}, fmt.Errorf("capture: seal %s: %w", c.name, errors.Join(ctx.Err(), c.sealErr))
	}
}

// beginSeal ends all appends and starts the sealer, once.
func (c *Capture) beginSeal(abandoned string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sealing {
		return
	}
	c.sealing, c.closed = true, true
	c.m.spawn(func(ctx context.Context) { c.sealForever(ctx, abandoned) })
}

// sealForever tries until the capture is sealed or ctx ends; the next process
// goes on then.
func (c *Capture) sealForever(ctx context.Context, abandoned string) {
	plan := &sealDoc{End: stamp(time.Now()), Clock: hostClock(), Abandoned: abandoned, Elsewhere: c.dir == ""}
	for _, s := range c.Streams() {
		if gaps := s.finish(plan.End); len(gaps) > 0 {
			if plan.Gaps == nil {
				plan.Gaps = make(map[string][]manifest.Gap)
			}
			plan.Gaps[s.meta.Name] = gaps
		}
	}
	pause := newBackoff()
	for try := 1; ; try++ {
		err := c.sealOnce(ctx, plan)
		if err == nil || ctx.Err() != nil || errors.Is(err, errHook) {
			return
		}
		c.mu.Lock()
		c.sealErr = err
		c.mu.Unlock()
		if try&(try-1) == 0 {
			c.m.log.Warn("capture not sealed, trying again", "capture", c.name, "try", try, "err", err)
		}
		if sleep(ctx, pause.NextBackOff()) != nil {
			return
		}
	}
}

// sealOnce does what is left of sealing. Each step can be repeated, and what
// the manifest holds comes from the records alone, so that a process that
// dies on any line is followed by one that makes the same manifest.
func (c *Capture) sealOnce(ctx context.Context, plan *sealDoc) error {
	if err := c.markSealing(ctx, plan); err != nil {
		return err
	}
	if err := c.m.cfg.hook("sealing"); err != nil {
		return err
	}
	if err := c.drain(ctx); err != nil {
		return err
	}
	state, doc, err := c.m.load(ctx, c.name)
	if err != nil {
		return err
	}
	m, err := c.m.assemble(ctx, c.name, doc)
	if err != nil {
		return err
	}
	envelope, err := manifest.Sign(m, c.m.cfg.Keys.Ed25519("evidence"))
	if err != nil {
		return err
	}
	sum := manifest.SHA256(envelope)
	ref := ManifestRef{Key: manifestKey(c.org, c.id, sum), SHA256: sum, Segments: m.Segments(), Bytes: m.Bytes(), Gaps: m.Gaps()}
	if len(envelope) > c.m.cfg.maxObject {
		ref.Parts = (len(envelope) + c.m.cfg.maxObject - 1) / c.m.cfg.maxObject
	}
	if state != StateSealed {
		if err := c.placeManifest(ctx, ref, envelope); err != nil {
			return err
		}
		if err := c.m.cfg.hook("manifest"); err != nil {
			return err
		}
		if err := c.markSealed(ctx, m, ref); err != nil {
			return err
		}
	}
	if err := c.m.cfg.hook("sealed"); err != nil {
		return err
	}
	for name, gaps := range plan.Gaps {
		c.m.log.Info("gaps stated at sealing", "capture", c.name, "stream", name, "gaps", len(gaps))
		c.m.metrics.gaps.Add(float64(len(gaps)))
	}
	c.m.forget(c)
	if c.dir != "" {
		c.m.removeFolder(c.dir)
	}
	c.mu.Lock()
	c.result = m
	c.mu.Unlock()
	close(c.sealed)
	c.m.log.Info("capture sealed", "capture", c.name, "segments", ref.Segments, "bytes", ref.Bytes, "gaps", ref.Gaps, "manifest", ref.Key)
	return nil
}

func (c *Capture) placeManifest(ctx context.Context, ref ManifestRef, envelope []byte) error {
	buf := make([]byte, 64<<10)
	for _, key := range ref.keys() {
		n := len(envelope)
		if ref.Parts > 0 {
			n = min(n, c.m.cfg.maxObject)
		}
		if err := c.m.place(ctx, c.bucket, key, envelope[:n], buf, true); err != nil {
			return err
		}
		envelope = envelope[n:]
	}
	return nil
}

// markSealing writes the plan into the record, or takes the one that an
// earlier process wrote there.
func (c *Capture) markSealing(ctx context.Context, plan *sealDoc) error {
	return c.m.modify(ctx, c.name, func(tx store.Tx, doc *document, state State) (State, error) {
		if state != StateActive {
			return "", nil
		}
		doc.Seal = plan
		return StateSealing, act(ctx, tx, c.org, "", c.name, "sealing", map[string]any{"abandoned": plan.Abandoned})
	})
}

// drain waits until the spool holds nothing of the capture.
func (c *Capture) drain(ctx context.Context) error {
	for {
		left, stuck := 0, error(nil)
		for _, s := range c.Streams() {
			s.mu.Lock()
			left += len(s.queue)
			stuck = errors.Join(stuck, s.stuck)
			s.mu.Unlock()
		}
		if left == 0 {
			return nil
		}
		if stuck != nil {
			if errors.Is(stuck, errHook) {
				return stuck
			}
			return fmt.Errorf("segments in the spool cannot be recorded: %w", stuck)
		}
		select {
		case <-c.stored:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// assemble makes the manifest from the records, checking each chain.
func (m *Manager) assemble(ctx context.Context, name string, doc document) (manifest.Manifest, error) {
	org, _, err := split(name)
	if err != nil {
		return manifest.Manifest{}, err
	}
	if doc.Seal == nil {
		return manifest.Manifest{}, fmt.Errorf("capture %s: its record has no sealing plan", name)
	}
	out := manifest.Manifest{
		V: manifest.Version, Capture: name, Owner: doc.Owner, Org: org, Bucket: doc.Bucket, Mode: string(doc.Mode), Retention: doc.Retention,
		Attributes: doc.Attributes, Actor: doc.Actor, Start: doc.Start, End: doc.Seal.End, Clock: doc.Seal.Clock,
		KeyID: doc.Recipient, Abandoned: doc.Seal.Abandoned, Streams: []manifest.StreamManifest{},
	}
	for _, sd := range doc.Streams {
		sm, err := m.assembleStream(ctx, name, sd, doc.Seal)
		if err != nil {
			return out, err
		}
		out.Streams = append(out.Streams, sm)
	}
	return out, nil
}

func (m *Manager) assembleStream(ctx context.Context, name string, sd streamDoc, plan *sealDoc) (manifest.StreamManifest, error) {
	sm := manifest.StreamManifest{Name: sd.Name, MediaType: sd.MediaType, Ext: sd.Ext, Attributes: sd.Attributes, Segments: []manifest.Segment{}}
	chain := manifest.NewChain(name, sd.Name)
	err := m.segments(ctx, name, sd.Name, 0, func(r manifest.Record) error {
		if err := chain.AddRecord(r); err != nil {
			return err
		}
		sm.Segments = append(sm.Segments, r.Segment)
		sm.Gaps = append(sm.Gaps, r.Gaps...)
		return nil
	})
	if err != nil {
		return sm, fmt.Errorf("stream %s of %s: %w", sd.Name, name, err)
	}
	sm.Bytes, sm.CipherBytes, sm.Count, sm.Head = chain.Bytes, chain.CipherBytes, int(chain.Next), chain.Head
	sm.Gaps = append(sm.Gaps, plan.Gaps[sd.Name]...)
	from, ended := sd.Start, false
	if n := len(sm.Segments); n > 0 {
		from, ended = sm.Segments[n-1].End, sm.Segments[n-1].Last
	}
	if plan.Abandoned != "" && !ended {
		// Nobody knows what came after the last byte, or whether anything did.
		sm.Gaps = append(sm.Gaps, manifest.Gap{From: from, Reason: "abandoned"})
	}
	return sm, nil
}

// errGrown: segments were recorded after the manifest was assembled.
var errGrown = errors.New("capture: it has grown since its manifest was made")

// nothingAfter makes sure that the manifest has every recorded segment. One
// that was on its way when another host began to seal may have come after the
// records were read: whoever sent it has let its spool go.
func nothingAfter(ctx context.Context, tx store.Tx, name string, m manifest.Manifest) error {
	for _, s := range m.Streams {
		_, err := tx.Get(ctx, store.Segments, segmentName(name, s.Name, int64(s.Count)))
		if err == nil {
			return fmt.Errorf("%w: segment %d of stream %s", errGrown, s.Count, s.Name)
		}
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	return nil
}

func (c *Capture) markSealed(ctx context.Context, m manifest.Manifest, ref ManifestRef) error {
	return c.m.modify(ctx, c.name, func(tx store.Tx, doc *document, state State) (State, error) {
		if state == StateSealed {
			return "", nil
		}
		if err := nothingAfter(ctx, tx, c.name, m); err != nil {
			return "", err
		}
		doc.Manifest = &ref
		for i := range doc.Streams {
			if s, ok := m.Stream(doc.Streams[i].Name); ok {
				doc.Streams[i].Bytes, doc.Streams[i].Segments, doc.Streams[i].Head = s.Bytes, int64(s.Count), s.Head
			}
		}
		return StateSealed, act(ctx, tx, c.org, "", c.name, "sealed", map[string]any{
			"manifest_sha256": ref.SHA256, "segments": ref.Segments, "bytes": ref.Bytes, "gaps": ref.Gaps,
		})
	})
}
