package proof

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	inclusionHead = "c2sp.org/tlog-proof@v1\n"
	maxHashes     = 63 // the height of the largest tree that an int64 can count
)

// Inclusion proves that the entry at Index is in the tree of a checkpoint
// (C2SP tlog-proof@v1, without extra data).
type Inclusion struct {
	Index int64
	// Path is the audit path of RFC 6962 §2.1.1, from the entry's sibling up.
	Path []tlog.Hash
	// Note is the signed checkpoint.
	Note []byte
}

// Marshal returns the text form (".tlog-proof").
func (p Inclusion) Marshal() []byte {
	var b bytes.Buffer
	b.WriteString(inclusionHead)
	fmt.Fprintf(&b, "index %d\n", p.Index)
	writeHashes(&b, p.Path)
	b.WriteByte('\n')
	b.Write(p.Note)
	return b.Bytes()
}

// ParseInclusion parses the text form. It does not verify the checkpoint's
// signature: see Check.
func ParseInclusion(text []byte) (Inclusion, error) {
	rest, ok := strings.CutPrefix(string(text), inclusionHead)
	if !ok || len(text) > MaxText {
		return Inclusion{}, fmt.Errorf("%w: not a tlog-proof@v1", ErrMalformed)
	}
	index, path, cp, err := parseLines(rest, "index ")
	if err != nil {
		return Inclusion{}, err
	}
	return Inclusion{Index: index, Path: path, Note: cp}, nil
}

// Check verifies the proof's checkpoint with the log's key and checks that an
// entry with this body is at Index in its tree. It returns ErrInclusion if it
// is not.
func (p Inclusion) Check(v note.Verifier, body []byte) (Checkpoint, error) {
	c, err := Open(p.Note, v)
	if err != nil {
		return c, err
	}
	return c, p.CheckIn(c, body)
}

// CheckIn is Check in a checkpoint that is verified already.
func (p Inclusion) CheckIn(c Checkpoint, body []byte) error {
	return p.CheckHash(c, tlog.RecordHash(body))
}

// CheckHash is CheckIn for an entry with this leaf hash (RFC 6962 §2.1).
func (p Inclusion) CheckHash(c Checkpoint, leaf tlog.Hash) error {
	if p.Index >= c.Size {
		return fmt.Errorf("%w: index %d, tree of %d", ErrInclusion, p.Index, c.Size)
	}
	if err := tlog.CheckRecord(tlog.RecordProof(p.Path), c.Size, c.Root, p.Index, leaf); err != nil {
		return fmt.Errorf("%w: index %d, tree of %d", ErrInclusion, p.Index, c.Size)
	}
	return nil
}

// Consistency proves that a tree extends an older one. Its text form is the
// body of an add-checkpoint request (C2SP tlog-witness).
type Consistency struct {
	// Old is the older tree's size.
	Old int64
	// Path is the consistency proof of RFC 6962 §2.1.2.
	Path []tlog.Hash
	// Note is the newer, signed checkpoint.
	Note []byte
}

// Marshal returns the text form.
func (p Consistency) Marshal() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "old %d\n", p.Old)
	writeHashes(&b, p.Path)
	b.WriteByte('\n')
	b.Write(p.Note)
	return b.Bytes()
}

// ParseConsistency parses the text form.
func ParseConsistency(text []byte) (Consistency, error) {
	if len(text) > MaxText {
		return Consistency{}, fmt.Errorf("%w: consistency proof of %d bytes", ErrMalformed, len(text))
	}
	old, path, cp, err := parseLines(string(text), "old ")
	if err != nil {
		return Consistency{}, err
	}
	return Consistency{Old: old, Path: path, Note: cp}, nil
}

// Check verifies the newer checkpoint with the log's key and checks that the
// older tree, of size Old and with this root, is its prefix. It returns
// ErrInclusion if it is not.
func (p Consistency) Check(v note.Verifier, oldRoot tlog.Hash) (Checkpoint, error) {
	c, err := Open(p.Note, v)
	if err != nil {
		return c, err
	}
	if p.Old == 0 && len(p.Path) == 0 {
		return c, nil // the empty tree is a prefix of every tree
	}
	if p.Old < 1 || p.Old > c.Size {
		return c, fmt.Errorf("%w: old size %d, tree of %d", ErrInclusion, p.Old, c.Size)
	}
	if err := tlog.CheckTree(tlog.TreeProof(p.Path), c.Size, c.Root, p.Old, oldRoot); err != nil {
		return c, fmt.Errorf("%w: tree of %d does not extend the tree of %d", ErrInclusion, c.Size, p.Old)
	}
	return c, nil
}

func writeHashes(b *bytes.Buffer, path []tlog.Hash) {
	for _, h := range path {
		b.WriteString(base64.StdEncoding.EncodeToString(h[:]))
		b.WriteByte('\n')
	}
}

// parseLines parses "<word>N", lines of hashes, an empty line and the
// checkpoint.
func parseLines(text, word string) (int64, []tlog.Hash, []byte, error) {
	head, cp, ok := strings.Cut(text, "\n\n")
	if !ok {
		return 0, nil, nil, fmt.Errorf("%w: no checkpoint in the proof", ErrMalformed)
	}
	lines := strings.Split(head, "\n")
	num, ok := strings.CutPrefix(lines[0], word)
	if !ok || len(lines)-1 > maxHashes {
		return 0, nil, nil, fmt.Errorf("%w: proof has no %q line or too many hashes", ErrMalformed, word)
	}
	n, err := parseSize(num)
	if err != nil {
		return 0, nil, nil, err
	}
	path := make([]tlog.Hash, 0, len(lines)-1)
	for _, l := range lines[1:] {
		h, err := parseHash(l)
		if err != nil {
			return 0, nil, nil, err
		}
		path = append(path, h)
	}
	return n, path, []byte(cp), nil
}
