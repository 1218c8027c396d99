package verify

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/openova-io/bp-relay/services/format/bag"
	"github.com/openova-io/bp-relay/services/format/dsse"
	"github.com/openova-io/bp-relay/services/format/manifest"
	"github.com/openova-io/bp-relay/services/format/proof"
)

// maxManifest bounds the manifest, in bytes. It is read in place or through a
// temporary file, in constant memory.
const maxManifest = 1 << 30

// manifest checks the sealed manifest: hash, signature, chains, heads, and what
// the log says about the capture. It is interpreted only if hash and signature
// are proven.
func (c *checker) manifest(f file, this slot) (int64, error) {
	if c.capture.read {
		c.rec.add(BagUnlisted, f.name, "a second manifest; this bag is of one capture")
		n, err := io.Copy(io.Discard, f.body)
		return n, short(n, f, err)
	}
	if f.size > maxManifest {
		c.rec.add(BagForm, f.name, "the file has %d bytes; an exported one has at most %d", f.size, maxManifest)
		n, err := io.Copy(io.Discard, f.body)
		return n, short(n, f, err)
	}
	c.capture.read = true
	text := &held{place: f.place}
	defer text.close()
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(text, sum), io.LimitReader(f.body, f.size))
	if err := short(n, f, err); err != nil {
		return n, err
	}
	got := [sha256.Size]byte(sum.Sum(nil))
	this.set(got)
	sealed, signed := c.sealed(f.name, hexOf(got)), false
	env, err := dsse.Read(text, text.size, manifest.PayloadType)
	switch {
	case errors.Is(err, dsse.ErrSignature):
		c.rec.add(CaptureSignature, f.name, "the manifest was altered after it was sealed: %v", err)
	case err != nil:
		return n, fmt.Errorf("%w: %w", ErrUnreadable, err)
	default:
		if signed, err = c.signedManifest(f.name, env); err != nil {
			return n, err
		}
	}
	if sealed && signed {
		c.interpret(f.name, env.Payload())
	}
	return n, nil
}

// signedManifest verifies the signature with the key that the log vouches for,
// and reports whether it is valid. It returns an error if it cannot be read.
func (c *checker) signedManifest(name string, env *dsse.Envelope) (bool, error) {
	key, ok := c.custody.vouched(proof.ManifestPurpose, env.KeyID)
	if !ok {
		c.rec.add(CaptureSignature, name, "it names a signing key that no proven entry of the log vouches for")
		return false, nil
	}
	err := env.Verify(key)
	if err != nil && !errors.Is(err, dsse.ErrSignature) {
		return false, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	valid := err == nil
	if !valid {
		c.rec.add(CaptureSignature, name, "its signature does not verify: the manifest was altered after it was sealed")
	}
	return valid, nil
}

// sealed checks that entries of the log commit to these bytes of the manifest,
// and reports whether one does.
func (c *checker) sealed(name, sum string) bool {
	exported := c.custody.exported != nil && c.custody.export.ManifestSHA256 == sum
	if c.custody.exported != nil && !exported {
		c.rec.add(CaptureSealed, name, "the entry about this export states %.16s as the manifest's hash, this one has %.16s: it was exchanged or altered", c.custody.export.ManifestSHA256, sum)
	}
	for _, s := range c.custody.facts.sealed {
		if s.Manifest == sum {
			return true
		}
	}
	c.rec.add(CaptureSealed, name, "no proven entry of the log commits to a manifest with these bytes (hash %.16s): it was altered, or its entry was removed", sum)
	return exported
}

// interpret reads a proven manifest and compares it with the log's entries.
func (c *checker) interpret(name string, payload io.Reader) {
	v := &visitor{c: c, file: name, names: bag.NewNames()}
	if err := manifest.Read(payload, v); err != nil {
		c.rec.add(CaptureChain, name, "the sealed manifest cannot be used: %v", err)
		c.capture = capture{read: true}
		return
	}
	v.endStream()
	for stream, heads := range c.custody.facts.heads {
		if c.capture.streams[stream] == nil {
			v.dropped(stream, heads)
		}
	}
	c.capture.known = true
	c.contradictions(name)
	r, m := &c.rec.report, &c.capture.head
	r.Capture, r.Owner, r.Org, r.Mode, r.Actor, r.Abandoned = m.Capture, m.Owner, m.Org, m.Mode, m.Actor, m.Abandoned
	r.Start, r.End, r.Clock = m.Start, m.End, &m.Clock
	r.Streams, r.Segments = len(c.capture.order), c.capture.segments
}

// visitor builds the capture from its manifest.
type visitor struct {
	c     *checker
	file  string
	names bag.Names
	now   *stream
	heads []headAt // of the stream, those that no segment has reached yet
}

// Manifest implements manifest.Visitor.
func (v *visitor) Manifest(m manifest.Manifest) error {
	if err := v.names.Capture(m.Capture); err != nil {
		return err
	}
	cp := &v.c.capture
	cp.head, cp.id, cp.streams = m, bag.CaptureID(m.Capture), map[string]*stream{}
	if bag.ManifestPath(cp.id) != v.file {
		v.c.rec.add(BagName, v.file, "the manifest is of %s and belongs at %s", m.Capture, bag.ManifestPath(cp.id))
	}
	return nil
}

// Stream implements manifest.Visitor.
func (v *visitor) Stream(s manifest.StreamManifest) error {
	if err := v.names.Stream(s); err != nil {
		return err
	}
	v.endStream()
	r := &v.c.rec.report
	for _, g := range s.Gaps {
		if len(r.Gaps) >= MaxGaps {
			r.MoreGaps++
			continue
		}
		r.Gaps = append(r.Gaps, Gap{Stream: s.Name, From: g.From, To: g.To, Reason: g.Reason, Bytes: g.Bytes})
	}
	v.c.capture.gaps += len(s.Gaps)
	v.now = &stream{gaps: len(s.Gaps) > 0, path: bag.PlayablePath(v.c.capture.id, s.Name, s.Ext)}
	s.Gaps = nil
	v.now.m = s
	v.heads = v.c.custody.facts.heads[s.Name]
	if v.c.capture.streams[s.Name] == nil { // else manifest.Read has found it
		v.c.capture.streams[s.Name] = v.now
	}
	v.c.capture.order = append(v.c.capture.order, v.now)
	return nil
}

// Segment implements manifest.Visitor.
func (v *visitor) Segment(g manifest.Segment, head string) error {
	s := v.now
	if err := v.names.Segment(s.m.Name, g); err != nil {
		return err
	}
	s.segs.add(segment{ct: digest(g.CipherSHA256), pt: digest(g.PlainSHA256), ctLen: uint32(g.CipherLen), ptLen: uint32(g.PlainLen)})
	v.c.capture.segments++
	v.c.capture.bytes += g.PlainLen
	for len(v.heads) > 0 && v.heads[0].seq <= g.Seq {
		if h := v.heads[0]; h.seq == g.Seq && head != "" && hexOf(h.hash) != head {
			v.c.rec.add(CaptureHead, v.file, "stream %s, segment %d: the log has another hash from the time of recording: segments were exchanged before sealing", s.m.Name, g.Seq)
		}
		v.heads = v.heads[1:]
	}
	return nil
}

// Broken implements manifest.Visitor.
func (v *visitor) Broken(err error) {
	v.c.rec.add(CaptureChain, v.file, "the sealed list of segments contradicts itself: %v", err)
}

// endStream judges the heads that no segment has reached.
func (v *visitor) endStream() {
	if v.now != nil {
		v.dropped(v.now.m.Name, v.heads)
	}
	v.heads = nil
}

func (v *visitor) dropped(stream string, heads []headAt) {
	if len(heads) > 0 {
		v.c.rec.add(CaptureHead, v.file, "stream %s: the log has a head at segment %d, but the sealed manifest has no such segment: it was dropped before sealing", stream, heads[len(heads)-1].seq)
	}
}

// digest decodes a hash that bag.Names has checked.
func digest(s string) (sum [sha256.Size]byte) {
	if b, err := hex.DecodeString(s); err == nil {
		copy(sum[:], b)
	}
	return sum
}

// playable returns the stream of a playable file's path, nil if there is none.
func (c *capture) playable(name string) *stream {
	rest, ok := strings.CutPrefix(name, bag.PlayablePath(c.id, "", ""))
	if !ok || c.id == "" {
		return nil
	}
	stream, _, _ := strings.Cut(rest, ".")
	if s := c.streams[stream]; s != nil && s.path == name {
		return s
	}
	return nil
}
