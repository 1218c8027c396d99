package verify

import (
	"fmt"
	"slices"
	"time"

	"github.com/openova-io/bp-relay/services/format/bag"
	"github.com/openova-io/bp-relay/services/format/manifest"
	"github.com/openova-io/bp-relay/services/format/proof"
)

// quoted is a value in a finding: text in quotation marks, and not too long.
func quoted(v any) string {
	if s, ok := v.(string); ok {
		return fmt.Sprintf("%.200q", s)
	}
	return fmt.Sprintf("%.200s", fmt.Sprint(v))
}

// contradictions compares the proven manifest with everything that the proven
// entries say about it. Whoever wrote both had to write the same.
func (c *checker) contradictions(name string) {
	m, f, cp := &c.capture.head, &c.custody.facts, &c.capture
	differs := func(line uint32, what string, manifest, entry any) {
		c.rec.add(CaptureContradiction, name, "the sealed manifest states %v as %s; line %d of the custody log states %v", manifest, what, line, entry)
	}
	for _, s := range f.subjects {
		if s != m.Capture && s != m.Owner && s != proof.LogSubject {
			c.rec.add(CaptureContradiction, bag.CustodyLog, "an entry is about %s, which is neither the capture nor its owner", s)
		}
	}
	if f.exportedOf != "" && f.exportedOf != m.Capture {
		c.rec.add(CaptureSealed, name, "the entry about this export is about %s, the manifest is of %s", f.exportedOf, m.Capture)
	}
	c.openedSays(name, differs)
	for _, x := range f.sealing {
		differ(differs, x.line, "why it was abandoned", m.Abandoned, x.says.Abandoned)
		differTime(differs, x.line, "its end", m.End, x.says.End)
	}
	for _, x := range f.sealed {
		if x.subject != m.Capture {
			c.rec.add(CaptureSealed, name, "an entry seals %s, the manifest is of %s", x.subject, m.Capture)
		}
		differ(differs, x.line, "the number of segments", cp.segments, x.Segments)
		differ(differs, x.line, "the number of bytes", cp.bytes, x.Bytes)
		differ(differs, x.line, "the number of gaps", cp.gaps, x.Gaps)
	}
	c.streamsSay(name, differs)
	c.ownerSays(differs)
	c.targetSays(name)
	c.pemFiles()
}

// differing is a finding about a value.
type differing func(line uint32, what string, manifest, entry any)

// differ adds a finding unless the entry says nothing, or the same.
func differ[T comparable](add differing, line uint32, what string, manifest T, entry *T) {
	if entry != nil && *entry != manifest {
		add(line, what, quoted(manifest), quoted(*entry))
	}
}

func differTime(add differing, line uint32, what string, manifest time.Time, entry *time.Time) {
	if entry != nil && !entry.Equal(manifest) {
		add(line, what, manifest.UTC().Format(time.RFC3339Nano), entry.UTC().Format(time.RFC3339Nano))
	}
}

func (c *checker) openedSays(name string, differs differing) {
	m, f := &c.capture.head, &c.custody.facts
	if len(f.opened) != 1 {
		c.rec.add(CaptureContradiction, name, "the log has %d entries that the capture was opened, want 1", len(f.opened))
	}
	for _, x := range f.opened {
		if x.subject != m.Capture {
			differs(x.line, "the capture", m.Capture, x.subject)
		}
		actor := m.Actor
		if actor == "" {
			actor = "relay"
		}
		differ(differs, x.line, "who started it", actor, &x.actor)
		differ(differs, x.line, "the organisation", m.Org, &x.org)
		differ(differs, x.line, "the owner", m.Owner, x.says.Owner)
		differ(differs, x.line, "the mode", m.Mode, x.says.Mode)
		differ(differs, x.line, "the bucket", m.Bucket, x.says.Bucket)
		differ(differs, x.line, "the retention", m.Retention, x.says.Retention)
		differ(differs, x.line, "the hash of the key", manifest.SHA256([]byte(m.KeyID)), x.says.KeyID)
		differTime(differs, x.line, "its start", m.Start, x.says.Start)
	}
}

// streamsSay compares the streams with the entries that they were opened.
func (c *checker) streamsSay(name string, differs differing) {
	f := &c.custody.facts
	for _, s := range c.capture.order {
		x, ok := f.streams[s.m.Name]
		if !ok {
			c.rec.add(CaptureContradiction, name, "stream %s: the log has no entry that it was opened", s.m.Name)
			continue
		}
		differ(differs, x.line, "the media type of stream "+s.m.Name, s.m.MediaType, x.says.MediaType)
		differ(differs, x.line, "the extension of stream "+s.m.Name, s.m.Ext, x.says.Ext)
		if a := x.says.Attributes; a != nil && !sameMap(*a, s.m.Attributes) || a == nil && x.says.MediaType != nil && len(s.m.Attributes) > 0 {
			differs(x.line, "the attributes of stream "+s.m.Name, quoted(s.m.Attributes), quoted(a))
		}
	}
	for stream := range f.streams {
		if c.capture.streams[stream] == nil {
			c.rec.add(CaptureHead, name, "stream %s: the log has an entry that it was opened, but the sealed manifest has no such stream: it was dropped before sealing", stream)
		}
	}
}

func sameMap(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || v != w {
			return false
		}
	}
	return true
}

// ownerSays compares the capture with the entries of the session or recording.
func (c *checker) ownerSays(differs differing) {
	m := &c.capture.head
	for _, x := range c.custody.facts.owner {
		if x.subject != m.Owner {
			continue
		}
		differ(differs, x.line, "the organisation", m.Org, &x.org)
		switch x.typ {
		case "session.opened", "session.started", "recording.starting":
			differ(differs, x.line, "who started it", m.Actor, &x.actor)
		}
		says := x.says
		differ(differs, x.line, "the capture", m.Capture, says.Capture)
		differ(differs, x.line, "the mode", m.Mode, says.Mode)
		differ(differs, x.line, "the mode", m.Mode, says.Recording)
		differ(differs, x.line, "the retention", m.Retention, says.Retention)
		differ(differs, x.line, "the room", m.Attributes["room"], says.Room)
		differ(differs, x.line, "the connection", m.Attributes["connection"], says.Connection)
		if says.Manifest != nil && !slices.ContainsFunc(c.custody.facts.sealed, func(s sealed) bool { return s.Manifest == *says.Manifest }) {
			differs(x.line, "the manifest's hash", "another", *says.Manifest)
		}
		if says.Streams != nil {
			c.bytesSay(x.line, says.Streams, differs)
		}
	}
}

// bytesSay compares the streams' lengths with those that were counted when they
// were recorded. Bytes that the recorder lost later are stated as a gap.
func (c *checker) bytesSay(line uint32, counts map[string]int64, differs differing) {
	for stream, n := range counts {
		s := c.capture.streams[stream]
		switch {
		case s == nil:
			differs(line, "the streams", "none named "+stream, n)
		case s.m.Bytes != n && !s.gaps:
			differs(line, "the bytes of stream "+stream, s.m.Bytes, n)
		}
	}
	for _, s := range c.capture.order {
		if _, ok := counts[s.m.Name]; !ok {
			differs(line, "a stream", s.m.Name, "none of this name")
		}
	}
}

// targetSays finds where the session went.
func (c *checker) targetSays(name string) {
	m, r := &c.capture.head, &c.rec.report
	id, want := m.Attributes[bag.TargetEntry], m.Attributes[bag.TargetCommit]
	if id == "" {
		return // not a session, or of an older release
	}
	t, ok := c.custody.facts.targets[id]
	switch {
	case !ok || t.commit != want:
		c.rec.add(CaptureContradiction, name, "the log has no entry %s with the target that the manifest commits to", id)
	case t.erased:
		r.TargetErased = true
	case t.Capture != m.Capture:
		c.rec.add(CaptureContradiction, name, "the target in entry %s is of another capture, %s", id, t.Capture)
	default:
		r.Target = &t.Target
	}
}

// pemFiles compares the files of the signing keys with the entries that vouch
// for them.
func (c *checker) pemFiles() {
	for _, p := range c.custody.pems {
		if !slices.ContainsFunc(c.custody.facts.keys, func(k proof.Key) bool {
			text, err := k.PEM()
			return err == nil && bag.KeyPath(k.Purpose, k.Public) == p.name && manifest.SHA256(text) == hexOf(p.sum)
		}) {
			c.rec.add(LogKey, p.name, "no proven entry of the log vouches for this key: it was added or altered")
		}
	}
}
