package bag

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/openova-io/bp-relay/services/format/leaf"
)

// ExportedType is the type of the entry about an export.
const ExportedType = "capture.exported"

// ErrLine: a line of the custody log does not have the form that EncodeLine
// gives.
var ErrLine = errors.New("bag: malformed custody line")

// MaxLine bounds a line of the custody log, in bytes, MaxLines their number.
const (
	MaxLine  = 4 << 20
	MaxLines = 200_000
)

// Exported is what an ExportedType entry commits to.
type Exported struct {
	// Export is the id of the bag.
	Export string `json:"export"`
	// Format is Profile.
	Format string `json:"format"`
	// ManifestSHA256 is the hex hash of the capture's DSSE envelope.
	ManifestSHA256 string `json:"manifest_sha256"`
	// Custody is the hex hash of the custody log's lines before this entry's
	// own and Lines their number, so that no line can be left out.
	Custody string `json:"custody_sha256"`
	Lines   int64  `json:"custody_lines"`
}

// TargetType is the type of the entry that says where a session went.
const TargetType = "session.target"

// Attributes of the manifest of a session that name its TargetType entry: the
// entry's id, and what its body commits to (leaf.Body.Commit). The details
// themselves are in the entry's opening, which can be erased.
const (
	TargetEntry  = "target_entry"
	TargetCommit = "target_commit"
)

// Target is what a TargetType entry commits to.
type Target struct {
	Capture  string `json:"capture,omitempty"` // "" if the session is not recorded
	Protocol string `json:"protocol"`
	Host     string `json:"host"`
	Port     int    `json:"port"`
	Account  string `json:"account"`
	// HostKey is the type and the fingerprint of the key that the host had to
	// prove ("ssh-rsa SHA256:..."); "" if any host was accepted.
	HostKey string `json:"host_key,omitempty"`
}

// String describes the target in a line.
func (t Target) String() string {
	key := "any host key accepted"
	if t.HostKey != "" {
		key = "host key " + t.HostKey
	}
	return fmt.Sprintf("%s to %s port %d as %s, %s", t.Protocol, t.Host, t.Port, t.Account, key)
}

// Line is one entry in data/custody.jsonl. Body and Opening are the exact bytes
// that the tree and the commitment hash; Readable repeats them for people.
type Line struct {
	Index    int64    `json:"index"`
	Body     string   `json:"body"`
	Opening  string   `json:"opening,omitempty"`
	Readable Readable `json:"readable"`
}

// Readable is a line's content without hashes. Erased is set if the opening was
// erased, so that only id, type and time are left.
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

// EncodeLine returns the line of a numbered leaf, newline included. It returns
// leaf.ErrMismatch if the leaf does not commit to its opening.
func EncodeLine(l leaf.Leaf) ([]byte, error) {
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

// ParseLine parses a line, newline included. It returns ErrLine unless text is
// byte for byte what EncodeLine gives, so that Readable is what was committed
// to, and leaf.ErrMismatch if the body does not commit to the opening.
func ParseLine(text []byte) (Line, error) {
	var l Line
	if err := json.Unmarshal(text, &l); err != nil {
		return l, fmt.Errorf("%w: %w", ErrLine, err)
	}
	if l.Index < 0 || !leaf.ValidID(l.Readable.ID) {
		return l, fmt.Errorf("%w: index %d of entry %.64q", ErrLine, l.Index, l.Readable.ID)
	}
	want, err := EncodeLine(leaf.Leaf{ID: l.Readable.ID, Index: l.Index, Body: []byte(l.Body), Opening: []byte(l.Opening)})
	if errors.Is(err, leaf.ErrMismatch) {
		return l, err
	}
	if err != nil {
		return l, fmt.Errorf("%w: %w", ErrLine, err)
	}
	if !bytes.Equal(want, text) {
		return l, fmt.Errorf("%w: its readable part or its form differs from the entry", ErrLine)
	}
	return l, nil
}
