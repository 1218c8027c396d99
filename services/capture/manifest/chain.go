package manifest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/gowebpki/jcs"
)

// ErrChain says that the segments are not the ones that the chain was made of.
var ErrChain = errors.New("manifest: broken chain")

// Record is a segment with the hash of the one before it: what is hashed, and
// what the records keep for each stored segment.
type Record struct {
	Segment
	Prev string `json:"prev"`
}

// Genesis is the Prev of a stream's first segment.
func Genesis(capture, stream string) string {
	h := sha256.New()
	// A resource name holds no zero byte, so the two cannot be cut elsewhere.
	h.Write([]byte("bp-relay/capture/v1\x00" + capture + "\x00" + stream))
	return hex.EncodeToString(h.Sum(nil))
}

// Canonical is the record's canonical JSON (RFC 8785).
func (r Record) Canonical() ([]byte, error) { return canonical(r) }

// Hash is SHA-256(0x00 || canonical record): the leaf hash of RFC 6962,
// section 2.1, so that a tree can be built over the same hashes.
func (s Segment) Hash(prev string) (string, error) {
	body, err := Record{Segment: s, Prev: prev}.Canonical()
	if err != nil {
		return "", err
	}
	return HashRecord(body), nil
}

// HashRecord is Hash of a record that is canonical JSON already.
func HashRecord(canonical []byte) string {
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(canonical)
	return hex.EncodeToString(h.Sum(nil))
}

// Chain checks a stream's segments one at a time and keeps their sums. Its
// memory does not grow with the stream.
type Chain struct {
	// Head is the hash of the last segment added, Genesis before the first.
	Head string
	// Next is the number that the next segment must have: how many were added.
	Next int64
	// Bytes and CipherBytes are the sums so far.
	Bytes, CipherBytes int64
}

// NewChain starts the chain of a stream.
func NewChain(capture, stream string) *Chain {
	return &Chain{Head: Genesis(capture, stream)}
}

// Add takes the next segment. It fails with ErrChain where number or offset do
// not follow on, and changes nothing then.
func (c *Chain) Add(s Segment) error {
	if s.Seq != c.Next {
		return fmt.Errorf("%w: segment %d where %d should be", ErrChain, s.Seq, c.Next)
	}
	if s.Offset != c.Bytes {
		return fmt.Errorf("%w: segment %d begins at %d, the one before it ends at %d", ErrChain, s.Seq, s.Offset, c.Bytes)
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

// AddRecord is Add for a record: its Prev must be the chain's head.
func (c *Chain) AddRecord(r Record) error {
	if r.Prev != c.Head {
		return fmt.Errorf("%w: segment %d names %.12s as the hash before it, which is %.12s", ErrChain, r.Seq, r.Prev, c.Head)
	}
	return c.Add(r.Segment)
}

// CheckChain recomputes a stream's chain and compares it with what the
// manifest states: order, offsets, counts, sums, and the last hash. It names
// the first thing that is wrong.
func CheckChain(capture string, s StreamManifest) error {
	c := NewChain(capture, s.Name)
	var gaps int
	for _, g := range s.Segments {
		if err := c.Add(g); err != nil {
			return fmt.Errorf("stream %s: %w", s.Name, err)
		}
		for _, gap := range g.Gaps {
			if gaps >= len(s.Gaps) || !s.Gaps[gaps].equal(gap) {
				return fmt.Errorf("stream %s: %w: a gap of segment %d is not in the stream's list", s.Name, ErrChain, g.Seq)
			}
			gaps++
		}
	}
	switch {
	case int64(s.Count) != c.Next:
		return fmt.Errorf("stream %s: %w: %d segments stated, %d listed", s.Name, ErrChain, s.Count, c.Next)
	case s.Bytes != c.Bytes || s.CipherBytes != c.CipherBytes:
		return fmt.Errorf("stream %s: %w: %d bytes (%d encrypted) stated, %d (%d) listed", s.Name, ErrChain, s.Bytes, s.CipherBytes, c.Bytes, c.CipherBytes)
	case s.Head != c.Head:
		return fmt.Errorf("stream %s: %w: the last hash is stated as %.12s and computed as %.12s", s.Name, ErrChain, s.Head, c.Head)
	}
	return nil
}

// Check is CheckChain for every stream, each name used once.
func (m Manifest) Check() error {
	if m.V != Version {
		return fmt.Errorf("manifest version %d: this program reads version %d", m.V, Version)
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
