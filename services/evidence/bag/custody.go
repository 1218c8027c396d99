package bag

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/openova-io/bp-relay/services/evidence/leaf"
	"github.com/openova-io/bp-relay/services/store"
)

// ExportedType is the type of the entry that says that a bag is leaving.
const ExportedType = "capture.exported"

// ErrLine says that a line of the custody log is not in its form.
var ErrLine = errors.New("bag: malformed custody line")

// MaxLine bounds a line of the custody log, in bytes.
const MaxLine = 4 << 20

// Exported is what an ExportedType entry commits to.
type Exported struct {
	// Export is the id of the bag.
	Export string `json:"export"`
	// Format is Profile.
	Format string `json:"format"`
	// ManifestSHA256 is the hex hash of the capture's DSSE envelope.
	ManifestSHA256 string `json:"manifest_sha256"`
	// Custody is the hex hash of the custody log's lines before this entry's
	// own, and Lines their number: none can be left out of the bag.
	Custody string `json:"custody_sha256"`
	Lines   int64  `json:"custody_lines"`
}

// Line is one entry of the log in data/custody.jsonl. Body and Opening are
// the exact bytes that the tree and the commitment hash; Readable repeats
// what they say for a reader.
type Line struct {
	Index    int64    `json:"index"`
	Body     string   `json:"body"`
	Opening  string   `json:"opening,omitempty"`
	Readable Readable `json:"readable"`
}

// Readable is a line's content without hashes. Erased is set where the
// opening is gone, so that only type and time are left.
type Readable struct {
	ID      string          `json:"id"`
	Type    string          `json:"type"`
	Time    string          `json:"time"`
	Org     string          `json:"org,omitempty"`
	Actor   string          `json:"actor,omitempty"`
	Subject string          `json:"subject,omitempty"`
	Detail  json.RawMessage `json:"detail,omitempty"`
	Erased  bool            `json:"erased,omitempty"`
}

// EncodeLine makes the line of a numbered leaf, newline included.
// leaf.ErrMismatch where its opening is not the one it commits to.
func EncodeLine(l store.Leaf) ([]byte, error) {
	b, o, err := leaf.Open(l.Body, l.Opening)
	if err != nil {
		return nil, fmt.Errorf("leaf %s: %w", l.ID, err)
	}
	line := Line{Index: l.Index, Body: string(l.Body), Opening: string(l.Opening), Readable: Readable{
		ID: b.ID, Type: b.Type, Time: b.Time, Org: o.Org, Actor: o.Actor, Subject: o.Subject, Detail: o.Detail, Erased: len(l.Opening) == 0,
	}}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(line); err != nil {
		return nil, fmt.Errorf("leaf %s: %w", l.ID, err)
	}
	return out.Bytes(), nil
}

// ParseLine reads a line (newline included). ErrLine where it is not in the
// form that EncodeLine gives, to the byte: what a reader sees is then what
// was committed to. leaf.ErrMismatch where the opening is another one.
func ParseLine(text []byte) (Line, error) {
	var l Line
	if err := json.Unmarshal(text, &l); err != nil {
		return l, fmt.Errorf("%w: %w", ErrLine, err)
	}
	if l.Index < 0 {
		return l, fmt.Errorf("%w: index %d", ErrLine, l.Index)
	}
	want, err := EncodeLine(store.Leaf{ID: l.Readable.ID, Index: l.Index, Body: []byte(l.Body), Opening: []byte(l.Opening)})
	if errors.Is(err, leaf.ErrMismatch) {
		return l, err
	}
	if err != nil {
		return l, fmt.Errorf("%w: %w", ErrLine, err)
	}
	if !bytes.Equal(want, text) {
		return l, fmt.Errorf("%w: its readable part or its form is not what the entry says", ErrLine)
	}
	return l, nil
}
