package manifest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
)

// Bounds of what Read holds at a time. A recorder stays far below them.
const (
	// maxValue bounds the JSON of a segment, of a gap and of a head field, in
	// bytes.
	maxValue = 512 << 10
	// maxObjects bounds the objects in one of them: marks, gaps, attributes.
	maxObjects = 8 << 10
	// maxGaps bounds the gaps of a stream.
	maxGaps = 64 << 10
)

// Visitor receives a manifest in the order in which it is written.
type Visitor interface {
	// Manifest is called first, with everything but V and Streams.
	Manifest(m Manifest) error
	// Stream begins a stream; s has no segments.
	Stream(s StreamManifest) error
	// Segment is one of the stream that was begun last. head is the hash of its
	// record; it is "" if the chain is broken before or at this segment.
	Segment(g Segment, head string) error
	// Broken is called for what the manifest states and does not hold: an error
	// of Manifest.Check. Read continues.
	Broken(err error)
}

// Read reads a signed manifest from its payload, a statement in canonical JSON,
// in constant memory. It checks everything that Manifest.Check does, and that
// the statement's subjects are the streams. It returns an error, the visitor's
// own included, if the payload cannot be read to its end.
//
// Verify the envelope first: Read bounds what it holds, but nothing that it
// returns is proven before.
func Read(payload io.Reader, v Visitor) error {
	b := &bound{in: payload}
	r := &reader{dec: json.NewDecoder(b), v: v, listed: sha256.New(), subjects: sha256.New(), seen: map[string]bool{}}
	r.dec.DisallowUnknownFields()
	b.dec = r.dec
	if err := r.statement(); err != nil {
		return fmt.Errorf("manifest statement: %w", err)
	}
	if _, err := r.dec.Token(); err != io.EOF {
		return errors.New("manifest statement: something follows it")
	}
	return nil
}

// bound fails when the decoder would have to hold more than maxValue of bytes
// to go on.
type bound struct {
	in  io.Reader
	dec *json.Decoder
	n   int64
}

func (b *bound) Read(p []byte) (int, error) {
	if b.n-b.dec.InputOffset() > maxValue {
		return 0, fmt.Errorf("a value is longer than %d bytes", maxValue)
	}
	n, err := b.in.Read(p[:min(len(p), 64<<10)])
	b.n += int64(n)
	return n, err
}

// reader is one call of Read.
type reader struct {
	dec *json.Decoder
	v   Visitor

	typ, predicateType string
	m                  Manifest
	stream             StreamManifest
	check              *checker // nil once the stream's chain is broken
	seen               map[string]bool
	// What the statement's subjects must be, and what they are.
	listed, subjects hash.Hash
}

// field is a member of an object and how to read its value.
type field struct {
	name string
	read func() error
}

func (r *reader) statement() error {
	err := r.object(
		field{"_type", r.into(&r.typ)},
		field{"predicate", r.predicate},
		field{"predicateType", r.into(&r.predicateType)},
		field{"subject", r.subject},
	)
	if err != nil {
		return err
	}
	if r.typ != StatementType || r.predicateType != PredicateType {
		return fmt.Errorf("it has type %q and predicate type %q, want %q and %q", r.typ, r.predicateType, StatementType, PredicateType)
	}
	if hex.EncodeToString(r.listed.Sum(nil)) != hex.EncodeToString(r.subjects.Sum(nil)) {
		r.v.Broken(fmt.Errorf("%w: the statement's subjects are not the manifest's streams", ErrChain))
	}
	return nil
}

func (r *reader) predicate() error {
	m, begun := &r.m, false
	err := r.object(
		field{"abandoned", r.into(&m.Abandoned)}, field{"actor", r.into(&m.Actor)}, field{"attributes", r.into(&m.Attributes)},
		field{"bucket", r.into(&m.Bucket)}, field{"capture", r.into(&m.Capture)}, field{"clock", r.into(&m.Clock)},
		field{"end", r.into(&m.End)}, field{"key_id", r.into(&m.KeyID)}, field{"mode", r.into(&m.Mode)},
		field{"org", r.into(&m.Org)}, field{"owner", r.into(&m.Owner)}, field{"retention", r.into(&m.Retention)},
		field{"start", r.into(&m.Start)},
		field{"streams", func() error {
			begun = true
			if err := r.v.Manifest(*m); err != nil {
				return err
			}
			return r.array(r.oneStream)
		}},
		field{"v", r.into(&m.V)},
	)
	if err == nil && !begun {
		return errors.New("the manifest has no list of streams")
	}
	if err == nil && m.V != Version {
		err = fmt.Errorf("manifest version %d: this program reads only version %d", m.V, Version)
	}
	return err
}

func (r *reader) oneStream() error {
	r.stream, r.check = StreamManifest{}, nil
	s, begun := &r.stream, false
	err := r.object(
		field{"attributes", r.into(&s.Attributes)}, field{"bytes", r.into(&s.Bytes)}, field{"count", r.into(&s.Count)},
		field{"ct_bytes", r.into(&s.CipherBytes)}, field{"ext", r.into(&s.Ext)},
		field{"gaps", func() error { return r.array(r.gap) }},
		field{"head", r.into(&s.Head)}, field{"media_type", r.into(&s.MediaType)}, field{"name", r.into(&s.Name)},
		field{"segments", func() error {
			begun = true
			if err := r.begin(); err != nil {
				return err
			}
			return r.array(r.segment)
		}},
	)
	if err != nil {
		return err
	}
	if !begun {
		return errors.New("a stream has no list of segments")
	}
	if r.check != nil {
		if err := r.check.end(); err != nil {
			r.v.Broken(err)
		}
	}
	return addSubject(r.listed, subjectOf(r.m.Capture, s.Name, s.Head))
}

// begin begins a stream, whose fields before its segments are known.
func (r *reader) begin() error {
	if r.seen[r.stream.Name] {
		r.v.Broken(fmt.Errorf("%w: stream %s is listed twice", ErrChain, r.stream.Name))
	}
	r.seen[r.stream.Name] = true
	r.check = newChecker(r.m.Capture, r.stream)
	return r.v.Stream(r.stream)
}

func (r *reader) gap() error {
	if len(r.stream.Gaps) >= maxGaps {
		return fmt.Errorf("a stream with more than %d gaps", maxGaps)
	}
	var g Gap
	if err := r.value(&g); err != nil {
		return err
	}
	r.stream.Gaps = append(r.stream.Gaps, g)
	return nil
}

func (r *reader) segment() error {
	var g Segment
	if err := r.value(&g); err != nil {
		return err
	}
	head := ""
	if r.check != nil {
		if err := r.check.add(g); err != nil {
			r.v.Broken(err)
			r.check = nil
		} else {
			head = r.check.chain.Head
		}
	}
	return r.v.Segment(g, head)
}

func (r *reader) subject() error {
	return r.array(func() error {
		var s subject
		if err := r.value(&s); err != nil {
			return err
		}
		return addSubject(r.subjects, s)
	})
}

func addSubject(h hash.Hash, s subject) error {
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("marshal subject: %w", err)
	}
	h.Write(append(text, '\n'))
	return nil
}

// object reads an object whose members are in the order of fields, each at most
// once: the order of canonical JSON (RFC 8785 §3.2.3).
func (r *reader) object(fields ...field) error {
	if err := r.delim('{'); err != nil {
		return err
	}
	for r.dec.More() {
		t, err := r.dec.Token()
		if err != nil {
			return err
		}
		name, _ := t.(string)
		for len(fields) > 0 && fields[0].name != name {
			fields = fields[1:]
		}
		if len(fields) == 0 {
			return fmt.Errorf("field %.64q is unknown, or not in its place", name)
		}
		if err := fields[0].read(); err != nil {
			return err
		}
		fields = fields[1:]
	}
	return r.delim('}')
}

// array reads an array; null is an empty one.
func (r *reader) array(each func() error) error {
	t, err := r.dec.Token()
	if err != nil || t == nil {
		return err
	}
	if t != json.Delim('[') {
		return errors.New("want a list")
	}
	for r.dec.More() {
		if err := each(); err != nil {
			return err
		}
	}
	return r.delim(']')
}

func (r *reader) delim(want json.Delim) error {
	t, err := r.dec.Token()
	if err != nil {
		return err
	}
	if t != want {
		return fmt.Errorf("want %q", want.String())
	}
	return nil
}

// value reads one bounded value.
func (r *reader) value(into any) error {
	var raw json.RawMessage
	if err := r.dec.Decode(&raw); err != nil {
		return err
	}
	if len(raw) > maxValue || bytes.Count(raw, []byte("{")) > maxObjects {
		return fmt.Errorf("a value is larger than %d bytes or %d objects", maxValue, maxObjects)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	return dec.Decode(into)
}

func (r *reader) into(p any) func() error { return func() error { return r.value(p) } }
