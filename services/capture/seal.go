package capture

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/openova-io/bp-relay/services/format/manifest"
	"github.com/openova-io/bp-relay/services/records"
)

// Seal finishes the capture: it waits until everything is stored, writes the
// signed manifest, and returns it. Every call returns the same manifest. If ctx
// ends first, sealing continues in the background, also after a restart.
func (c *Capture) Seal(ctx context.Context) (manifest.Manifest, error) {
	return c.seal(ctx, "")
}

// SealAbandoned seals a capture that its owner will not resume: with what this
// host's spool holds, or, if the spool is on another host, with what is stored.
// The reason goes into the manifest, and each stream that was not closed gets a
// gap after its last byte. It succeeds if the capture is sealed already. If the
// spool is on another host, this process becomes the owner of the capture: the
// host can add nothing any more. The caller has made sure that the host's process
// is gone (Replica). It returns ErrTaken if that process came back and took the
// capture over again.
func (m *Manager) SealAbandoned(ctx context.Context, name, reason string) error {
	if err := m.waitReady(ctx); err != nil {
		return err
	}
	if reason == "" {
		reason = "abandoned"
	}
	c := m.local(name)
	if c == nil {
		if err := m.stillThere(name); err != nil {
			return err
		}
		state, doc, err := m.load(ctx, name)
		if err != nil || state == StateSealed {
			return err
		}
		if c, err = m.newCapture(name, doc); err != nil {
			return err
		}
		c.dir = ""
		if err := m.claim(c); err != nil {
			return err // a concurrent call is sealing it
		}
		if err := c.take(ctx); err != nil {
			m.forget(c)
			if errors.Is(err, ErrSealed) {
				return nil
			}
			return err
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
	case <-c.taken:
		return manifest.Manifest{}, c.Failure()
	case <-c.m.done:
		return manifest.Manifest{}, fmt.Errorf("%w: the manager has stopped; the next process will seal %s", ErrClosed, c.name)
	case <-ctx.Done():
		c.mu.Lock()
		defer c.mu.Unlock()
		return manifest.Manifest{}, fmt.Errorf("capture: seal %s: %w", c.name, errors.Join(ctx.Err(), c.sealErr))
	}
}

// beginSeal makes all further appends fail and starts the sealer, once.
func (c *Capture) beginSeal(abandoned string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sealing {
		return
	}
	c.sealing, c.closed = true, true
	c.m.tasks.Go(c.name, func(ctx context.Context) { c.sealForever(ctx, abandoned) })
}

// sealForever tries until the capture is sealed or ctx ends. In the latter case
// the next process seals it.
func (c *Capture) sealForever(ctx context.Context, abandoned string) {
	plan := &sealDoc{End: stamp(time.Now()), Clock: hostClock(), Abandoned: abandoned}
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
		if final(err) {
			c.lose(ctx, err)
			return
		}
		c.mu.Lock()
		c.sealErr = err
		c.mu.Unlock()
		if try&(try-1) == 0 {
			c.m.log.WarnContext(ctx, "cannot seal capture; trying again", "capture", c.name, "attempt", try, "error", err)
		}
		if sleep(ctx, pause.NextBackOff()) != nil {
			return
		}
	}
}

// sealOnce does the remaining steps of sealing. Each step can be repeated, and
// the manifest is made from the records alone, so that after a crash on any line
// the next process makes the same manifest.
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
		c.m.log.InfoContext(ctx, "gaps stated at sealing", "capture", c.name, "stream", name, "gaps", len(gaps))
		c.m.metrics.gaps.Add(float64(len(gaps)))
	}
	c.m.forget(c)
	if c.dir != "" {
		c.m.removeFolder(ctx, c.dir)
	}
	c.mu.Lock()
	c.result = m
	c.mu.Unlock()
	close(c.sealed)
	c.m.log.InfoContext(ctx, "capture sealed", "capture", c.name, "segments", ref.Segments, "bytes", ref.Bytes, "gaps", ref.Gaps, "manifest", ref.Key)
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

// markSealing writes the plan into the record, unless an earlier process has
// written one: that one counts. It also writes the streams that the record lacks.
func (c *Capture) markSealing(ctx context.Context, plan *sealDoc) error {
	return c.withNewStreams(func(fresh []*Stream) error {
		return c.change(ctx, func(tx records.Tx, doc *document, state State) (State, error) {
			if state == StateSealed {
				return "", nil
			}
			added, err := addStreams(ctx, tx, c.name, doc, fresh)
			switch {
			case err != nil:
				return "", err
			case state == StateSealing && !added:
				return "", nil
			case state == StateSealing:
				return state, nil
			}
			doc.Seal = plan
			return StateSealing, note(ctx, tx, "sealing", "", c.name, map[string]any{"abandoned": plan.Abandoned, "end": plan.End})
		})
	})
}

// drain waits until all segments of the capture in the spool are stored.
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
			return fmt.Errorf("record the segments in the spool: %w", stuck)
		}
		select {
		case <-c.stored:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// assemble makes the manifest from the records and checks each chain.
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
		// What came after the last byte, if anything, is unknown.
		sm.Gaps = append(sm.Gaps, manifest.Gap{From: from, Reason: "abandoned"})
	}
	return sm, nil
}

// errGrown: segments were recorded after the manifest was assembled.
var errGrown = errors.New("capture: it has grown since its manifest was assembled")

// nothingAfter returns errGrown unless the manifest has every recorded segment.
// When a host seals without the spool, the host that has the spool may record a
// segment, and delete its spool file, after the records were read.
func nothingAfter(ctx context.Context, tx records.Tx, name string, m manifest.Manifest) error {
	for _, s := range m.Streams {
		_, err := tx.Get(ctx, records.Segments, segmentName(name, s.Name, int64(s.Count)))
		if err == nil {
			return fmt.Errorf("%w: segment %d of stream %s", errGrown, s.Count, s.Name)
		}
		if !errors.Is(err, records.ErrNotFound) {
			return err
		}
	}
	return nil
}

func (c *Capture) markSealed(ctx context.Context, m manifest.Manifest, ref ManifestRef) error {
	return c.change(ctx, func(tx records.Tx, doc *document, state State) (State, error) {
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
		return StateSealed, note(ctx, tx, "sealed", "", c.name, map[string]any{
			"manifest_sha256": ref.SHA256, "segments": ref.Segments, "bytes": ref.Bytes, "gaps": ref.Gaps,
		})
	})
}
