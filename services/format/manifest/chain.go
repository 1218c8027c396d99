package manifest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/gowebpki/jcs"
)

// ErrChain: the segments are not those that the chain was computed over.
var ErrChain = errors.New("manifest: broken chain")

// Record is a segment and the hash of the segment before it. This is what is
// hashed, and what the records keep for each stored segment.
type Record struct {
	Segment
	Prev string `json:"prev"`
}

// Genesis is the Prev of a stream's first segment.
func Genesis(capture, stream string) string {
	h := sha256.New()
	// Resource names hold no zero byte, so the encoding is unambiguous.
	h.Write([]byte("bp-relay/capture/v1\x00" + capture + "\x00" + stream))
	return hex.EncodeToString(h.Sum(nil))
}

// Canonical is the record's canonical JSON (RFC 8785).
func (r Record) Canonical() ([]byte, error) { return canonical(r) }

// Hash is SHA-256(0x00 || canonical record), the leaf hash of RFC 6962 §2.1,
// so that a tree can be built over the same hashes.
func (s Segment) Hash(prev string) (string, error) {
	body, err := Record{Segment: s, Prev: prev}.Canonical()
	if err != nil {
		return "", err
	}
	return HashRecord(body), nil
}

// HashRecord is Segment.Hash of a record in canonical JSON.
func HashRecord(canonical []byte) string {
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(canonical)
	return hex.EncodeToString(h.Sum(nil))
}

// Chain checks a stream's segments one at a time and sums them up, in constant
// memory.
type Chain struct {
	// Head is the hash of the last segment added, Genesis before the first.
	Head string
	// Next is the sequence number of the next segment: how many were added.
	Next int64
	// Bytes and CipherBytes are the sums so far.
	Bytes, CipherBytes int64
}

// NewChain starts the chain of a stream.
func NewChain(capture, stream string) *Chain {
	return &Chain{Head: Genesis(capture, stream)}
}

// Add adds the next segment. It returns ErrChain, and changes nothing, if the
// sequence number or the offset does not follow the last segment's.
func (c *Chain) Add(s Segment) error {
	if s.Seq != c.Next {
		return fmt.Errorf("%w: segment %d, want segment %d", ErrChain, s.Seq, c.Next)
	}
	if s.Offset != c.Bytes {
		return fmt.Errorf("%w: segment %d begins at byte %d, but the one before it ends at %d", ErrChain, s.Seq, s.Offset, c.Bytes)
	}
	if s.PlainLen < 0 || s.CipherLen < 0 {
		return fmt.Errorf("%w: segment %d has a negative length", ErrChain, s.Seq)
	}
	head, err := s.Hash(c.Head)
	if err != nil {
		return err
	}
	c.Head = head
	c.Next++
	c.Bytes += s.PlainLen
	c.CipherBytes += s.CipherLen
	return nil
}

// AddRecord is Add for a record, whose Prev must be the chain's head.
func (c *Chain) AddRecord(r Record) error {
	if r.Prev != c.Head {
		return fmt.Errorf("%w: segment %d states %.12s as the hash before it, want %.12s", ErrChain, r.Seq, r.Prev, c.Head)
	}
	return c.Add(r.Segment)
}

// CheckChain recomputes a stream's chain and compares it with the manifest's
// statement: order, offsets, count, sums and last hash. It returns the first
// difference as an ErrChain.
func CheckChain(capture string, s StreamManifest) error {
	c := newChecker(capture, s)
	for _, g := range s.Segments {
		if err := c.add(g); err != nil {
			return err
		}
	}
	return c.end()
}

// checker is CheckChain for segments that come one at a time.
type checker struct {
	s     StreamManifest // without its segments
	chain *Chain
	gaps  int // how many of s.Gaps were in segments
}

func newChecker(capture string, s StreamManifest) *checker {
	s.Segments = nil
	return &checker{s: s, chain: NewChain(capture, s.Name)}
}

func (c *checker) add(g Segment) error {
	if err := c.chain.Add(g); err != nil {
		return fmt.Errorf("stream %s: %w", c.s.Name, err)
	}
	for _, gap := range g.Gaps {
		if c.gaps >= len(c.s.Gaps) || !c.s.Gaps[c.gaps].equal(gap) {
			return fmt.Errorf("stream %s: %w: a gap of segment %d is not in the stream's list", c.s.Name, ErrChain, g.Seq)
		}
		c.gaps++
	}
	return nil
}

func (c *checker) end() error {
	s, sum := c.s, c.chain
	switch {
	case int64(s.Count) != sum.Next:
		return fmt.Errorf("stream %s: %w: the manifest states %d segments and lists %d", s.Name, ErrChain, s.Count, sum.Next)
	case s.Bytes != sum.Bytes || s.CipherBytes != sum.CipherBytes:
		return fmt.Errorf("stream %s: %w: the manifest states %d bytes (%d encrypted) and lists %d (%d)", s.Name, ErrChain, s.Bytes, s.CipherBytes, sum.Bytes, sum.CipherBytes)
	case s.Head != sum.Head:
		return fmt.Errorf("stream %s: %w: the manifest states %.12s as the last hash, computed %.12s", s.Name, ErrChain, s.Head, sum.Head)
	}
	return nil
}

// Check is CheckChain for every stream. Stream names must be unique.
func (m Manifest) Check() error {
	if m.V != Version {
		return fmt.Errorf("manifest version %d: this program reads only version %d", m.V, Version)
	}
	seen := make(map[string]bool, len(m.Streams))
	for _, s := range m.Streams {
		if seen[s.Name] {
			return fmt.Errorf("%w: stream %s is listed twice", ErrChain, s.Name)
		}
		seen[s.Name] = true
		if err := CheckChain(m.Capture, s); err != nil {
			return err
		}
	}
	return nil
}

func canonical(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("marshal: %w", err)
	}
	out, err := jcs.Transform(raw)
	if err != nil {
		return nil, fmt.Errorf("canonical JSON: %w", err)
	}
	return out, nil
}
