package verify

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/openova-io/bp-relay/services/capture/manifest"
	"github.com/openova-io/bp-relay/services/evidence/bag"
	"github.com/openova-io/bp-relay/services/evidence/proof"
)

// capture is what the sealed manifest says, and what of it was seen.
type capture struct {
	id, name  string
	known     bool
	streams   []stream
	segments  map[string]*segment  // by path
	playables map[string]*playable // by path
	closed    bool
}

type stream struct {
	name string
	// segs keeps the order for the report of what is missing.
	segs []*segment
	play *playable
}

// segment is a stored segment as sealed.
type segment struct {
	stream string
	seq    int64
	of     int
	path   string
	sum    [sha256.Size]byte
	size   int64
	seen   bool
}

// playable is a stream's decrypted file as sealed.
type playable struct {
	stream string
	path   string
	size   int64
	parts  []part
	seen   bool
}

// manifest checks the sealed manifest: signature, entry, chains and heads.
// A manifest that does not hold is read all the same, so that what differs
// can be named.
func (c *checker) manifest(name string, envelope []byte) {
	if c.capture.id != "" {
		c.rec.add(BagUnlisted, name, "a second recording's manifest; this bag is of %s", c.capture.name)
		return
	}
	m, err := c.openManifest(name, envelope)
	if err != nil {
		c.rec.add(CaptureSignature, name, "the manifest cannot be read: %v", err)
		return
	}
	if err := bag.CheckNames(m); err != nil {
		c.rec.add(CaptureChain, name, "%v", err)
		return
	}
	cp := &c.capture
	cp.id, cp.name, cp.known = bag.CaptureID(m.Capture), m.Capture, true
	if bag.ManifestPath(cp.id) != name {
		c.rec.add(BagName, name, "the manifest is of %s and belongs at %s", m.Capture, bag.ManifestPath(cp.id))
	}
	if err := m.Check(); err != nil {
		c.rec.add(CaptureChain, name, "the sealed list of segments does not hold together: %v", err)
	}
	c.sealed(name, m, envelope)
	c.heads(m)
	r := &c.rec.report
	r.Capture, r.Owner, r.Start, r.End = m.Capture, m.Owner, m.Start, m.End
	r.Streams, r.Segments = len(m.Streams), m.Segments()
	for _, s := range m.Streams {
		for _, g := range s.Gaps {
			r.Gaps = append(r.Gaps, Gap{Stream: s.Name, From: g.From, To: g.To, Reason: g.Reason, Bytes: g.Bytes})
		}
	}
	cp.expect(m)
}

// openManifest checks the signature with the key that the log vouches for.
func (c *checker) openManifest(name string, envelope []byte) (manifest.Manifest, error) {
	key, ok := c.custody.vouched(proof.ManifestPurpose, bag.SignerID(envelope))
	if !ok {
		c.rec.add(CaptureSignature, name, "it names a signing key that no proven entry of the log vouches for")
		return unsigned(envelope)
	}
	m, err := manifest.Open(envelope, key)
	if errors.Is(err, manifest.ErrSignature) {
		c.rec.add(CaptureSignature, name, "its signature does not hold: the manifest was altered after it was sealed")
		return unsigned(envelope)
	}
	return m, err
}

// unsigned reads a manifest without believing it: only to say what differs.
func unsigned(envelope []byte) (manifest.Manifest, error) {
	var env struct {
		Payload string `json:"payload"`
	}
	var st struct {
		Predicate manifest.Manifest `json:"predicate"`
	}
	if err := json.Unmarshal(envelope, &env); err != nil {
		return st.Predicate, fmt.Errorf("not an envelope: %w", err)
	}
	raw, err := base64.StdEncoding.DecodeString(env.Payload)
	if err != nil {
		return st.Predicate, fmt.Errorf("not an envelope: %w", err)
	}
	if err := json.Unmarshal(raw, &st); err != nil {
		return st.Predicate, fmt.Errorf("not a manifest: %w", err)
	}
	return st.Predicate, nil
}

// sealed looks for the entry of the log that commits to this very manifest.
func (c *checker) sealed(name string, m manifest.Manifest, envelope []byte) {
	sum := manifest.SHA256(envelope)
	if x := c.custody.exported; x != nil && x.proven && c.custody.export.ManifestSHA256 != sum {
		c.rec.add(CaptureSealed, name, "the log says that this export is of a manifest with the hash %.16s, this one has %.16s: it was exchanged or altered", c.custody.export.ManifestSHA256, sum)
	}
	for _, s := range c.custody.seals {
		var d struct {
			Manifest string `json:"manifest_sha256"`
		}
		if json.Unmarshal(s.detail, &d) == nil && s.entry.proven && s.subject == m.Capture && d.Manifest == sum {
			return
		}
	}
	c.rec.add(CaptureSealed, name, "no proven entry of the log seals a manifest with these bytes (hash %.16s): it was altered, or its entry was removed", sum)
}

// heads checks that what the log was told while the recording ran is on the
// chain that was sealed: nothing was recorded anew afterwards.
func (c *checker) heads(m manifest.Manifest) {
	type at struct {
		stream string
		seq    int64
	}
	type head struct {
		Seq  int64  `json:"seq"`
		Hash string `json:"hash"`
	}
	want := map[at][]string{}
	for _, h := range c.custody.heads {
		var d struct {
			Heads map[string]head `json:"heads"`
		}
		if !h.entry.proven || h.subject != m.Capture || json.Unmarshal(h.detail, &d) != nil {
			continue
		}
		for stream, x := range d.Heads {
			if k := (at{stream, x.Seq}); len(want[k]) == 0 || want[k][len(want[k])-1] != x.Hash {
				want[k] = append(want[k], x.Hash)
			}
		}
	}
	for _, s := range m.Streams {
		chain := manifest.NewChain(m.Capture, s.Name)
		for _, g := range s.Segments {
			if chain.Add(g) != nil {
				break // a finding of Check
			}
			for _, hash := range want[at{s.Name, g.Seq}] {
				if hash != chain.Head {
					c.rec.add(CaptureHead, bag.ManifestPath(bag.CaptureID(m.Capture)), "stream %s, segment %d: the log was told another hash while it was recorded: segments were exchanged before sealing", s.Name, g.Seq)
				}
			}
			delete(want, at{s.Name, g.Seq})
		}
	}
	for _, o := range c.custody.streams {
		var d struct {
			Name string `json:"name"`
		}
		if !o.entry.proven || o.subject != m.Capture || json.Unmarshal(o.detail, &d) != nil {
			continue
		}
		if _, ok := m.Stream(d.Name); !ok {
			c.rec.add(CaptureHead, bag.ManifestPath(bag.CaptureID(m.Capture)), "stream %s: the log was told that it was opened, and the sealed manifest has no such stream: it was dropped before sealing", d.Name)
		}
	}
	for k := range want {
		c.rec.add(CaptureHead, bag.ManifestPath(bag.CaptureID(m.Capture)), "stream %s: the log was told of segment %d while it was recorded, and the sealed manifest has no such segment: it was dropped before sealing", k.stream, k.seq)
	}
}

// expect notes which files must come.
func (c *capture) expect(m manifest.Manifest) {
	c.segments, c.playables = make(map[string]*segment, m.Segments()), make(map[string]*playable, len(m.Streams))
	for _, s := range m.Streams {
		p := &playable{stream: s.Name, path: bag.PlayablePath(c.id, s.Name, s.Ext), size: s.Bytes}
		st := stream{name: s.Name, play: p}
		for _, g := range s.Segments {
			sg := &segment{stream: s.Name, seq: g.Seq, of: len(s.Segments), path: bag.SegmentPath(c.id, s.Name, g), sum: digest(g.CipherSHA256), size: g.CipherLen}
			st.segs = append(st.segs, sg)
			c.segments[sg.path] = sg
			p.parts = append(p.parts, part{sum: digest(g.PlainSHA256), from: g.Offset, size: g.PlainLen})
		}
		c.playables[p.path] = p
		c.streams = append(c.streams, st)
	}
}

// digest is a hash in hex that CheckNames has seen.
func digest(s string) (sum [sha256.Size]byte) {
	if b, err := hex.DecodeString(s); err == nil {
		copy(sum[:], b)
	}
	return sum
}

// checkSegment returns what to do with the segment's hash.
func (c *capture) checkSegment(rec *recorder, f file, g *segment) func([sha256.Size]byte) {
	g.seen = true
	if f.size != g.size {
		rec.add(SegmentChanged, f.name, "stream %s, segment %d of %d: %d bytes, sealed with %d", g.stream, g.seq, g.of, f.size, g.size)
		return func([sha256.Size]byte) {}
	}
	return func(sum [sha256.Size]byte) {
		if sum != g.sum {
			rec.add(SegmentChanged, f.name, "stream %s, segment %d of %d: its bytes are not the sealed ones", g.stream, g.seq, g.of)
		}
	}
}

// checkPlayable returns the sink that compares a playable file, part by part,
// with what was recorded.
func (c *capture) checkPlayable(rec *recorder, f file, p *playable) sink {
	p.seen = true
	if f.size != p.size {
		rec.add(StreamLength, f.name, "stream %s: the playable file has %d bytes, %d were recorded", p.stream, f.size, p.size)
	}
	return slices(p.parts, func(i int) {
		x := p.parts[i]
		rec.add(StreamChanged, f.name, "stream %s: bytes %d to %d (segment %d) are not what was recorded", p.stream, x.from, x.from+x.size, i)
	})
}

// close names what did not come.
func (c *capture) close(rec *recorder) {
	if c.closed || !c.known {
		return
	}
	c.closed = true
	for _, s := range c.streams {
		for _, g := range s.segs {
			if !g.seen {
				last := ""
				if g.seq == int64(g.of)-1 {
					last = ", the last one"
				}
				rec.add(SegmentMissing, g.path, "stream %s, segment %d of %d%s: it is sealed but is not in the bag: it was removed", g.stream, g.seq, g.of, last)
			}
		}
		if !s.play.seen {
			rec.add(StreamMissing, s.play.path, "stream %s: the playable file is not in the bag: it was removed", s.name)
		}
	}
}
