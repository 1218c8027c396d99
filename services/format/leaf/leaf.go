// Package leaf makes the entries of the evidence log. A leaf states that an
// act took place and commits to its details without holding them: its body,
// which the Merkle tree hashes, has no personal data, only the act's type, its
// time and a salted hash. The details and the salt are the opening. The records
// keep it, exports show it, and erasing it does not break the tree.
package leaf

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/gowebpki/jcs"
)

// Act is what happened. The leaf publishes Type and Time and commits to the
// rest.
type Act struct {
	// Type is a dotted word: "room.created", "recording.sealed",
	// "access.denied".
	Type string
	Org  string
	// Actor did it: a token's subject, or "relay".
	Actor string
	// Subject is the name of the resource that it was done to.
	Subject string
	// Detail is marshalled to JSON: hashes, counts, reasons.
	Detail any
	// Time is when it happened; zero means now.
	Time time.Time
}

// Body is the published part of a leaf, as canonical JSON (RFC 8785).
type Body struct {
	Commit string `json:"commit"` // base64(SHA-256(canonical JSON of the opening))
	ID     string `json:"id"`
	Time   string `json:"time"`
	Type   string `json:"type"` // dotted words, with no character that JSON escapes
	V      int    `json:"v"`
}

// Opening is the erasable part of a leaf, as canonical JSON.
type Opening struct {
	Salt    string          `json:"salt"` // base64, 16 random bytes
	Org     string          `json:"org"`
	Actor   string          `json:"actor"`
	Subject string          `json:"subject"`
	Detail  json.RawMessage `json:"detail,omitempty"`
}

// Leaf is one entry and its keys in the records. The tree hashes and publishes
// Body alone.
type Leaf struct {
	// ID is a UUID in lower-case text form (RFC 9562 §4), the one in Body.
	ID  string
	Org string
	// Subject is the name of the resource that the leaf is about.
	Subject string
	// Time is UTC, in whole microseconds.
	Time time.Time
	// Body is a Body in canonical JSON.
	Body []byte
	// Opening is an Opening in canonical JSON, empty once erased.
	Opening []byte
	// Index is the leaf's place in the tree, -1 until it is numbered.
	Index int64
}

// ErrMismatch: the opening is not the one that the body commits to.
var ErrMismatch = errors.New("leaf: opening does not match the commitment")

// New makes the leaf of an act, not yet numbered. id must be a UUID in
// lower-case text form that no other leaf has.
func New(id string, a Act) (Leaf, error) {
	if !ValidID(id) {
		return Leaf{}, fmt.Errorf("leaf id %q: want a UUID in lower case", id)
	}
	if a.Time.IsZero() {
		a.Time = time.Now()
	}
	var salt [16]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return Leaf{}, fmt.Errorf("leaf salt: %w", err)
	}
	o := Opening{Salt: base64.StdEncoding.EncodeToString(salt[:]), Org: a.Org, Actor: a.Actor, Subject: a.Subject}
	if a.Detail != nil {
		detail, err := json.Marshal(a.Detail)
		if err != nil {
			return Leaf{}, fmt.Errorf("leaf detail: %w", err)
		}
		o.Detail = detail
	}
	opening, err := canonical(o)
	if err != nil {
		return Leaf{}, err
	}
	sum := sha256.Sum256(opening)
	at := a.Time.UTC().Truncate(time.Microsecond)
	// The fields are sorted by name and hold nothing that JSON escapes, so this
	// is the canonical form.
	body, err := json.Marshal(Body{V: 1, ID: id, Type: a.Type, Time: at.Format(time.RFC3339Nano), Commit: base64.StdEncoding.EncodeToString(sum[:])})
	if err != nil {
		return Leaf{}, fmt.Errorf("marshal leaf: %w", err)
	}
	return Leaf{ID: id, Org: a.Org, Subject: a.Subject, Time: at, Body: body, Opening: opening, Index: -1}, nil
}

// ValidID reports whether id has the text form of a leaf's id, a UUID: 8-4-4-4-12
// lower-case hex digits.
func ValidID(id string) bool {
	if len(id) != 36 {
		return false
	}
	for i, c := range []byte(id) {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		hex := c >= '0' && c <= '9' || c >= 'a' && c <= 'f'
		if dash != (c == '-') || !dash && !hex {
			return false
		}
	}
	return true
}

// Open parses a leaf's body and checks that it commits to the opening; if not,
// it returns ErrMismatch. An empty opening (erased) gives the zero Opening.
func Open(body, opening []byte) (Body, Opening, error) {
	var b Body
	var o Opening
	if err := json.Unmarshal(body, &b); err != nil {
		return b, o, fmt.Errorf("leaf body: %w", err)
	}
	if len(opening) == 0 {
		return b, o, nil
	}
	want, err := base64.StdEncoding.DecodeString(b.Commit)
	if err != nil {
		return b, o, fmt.Errorf("leaf commitment: %w", err)
	}
	sum := sha256.Sum256(opening)
	if subtle.ConstantTimeCompare(sum[:], want) != 1 {
		return b, o, ErrMismatch
	}
	if err := json.Unmarshal(opening, &o); err != nil {
		return b, o, fmt.Errorf("leaf opening: %w", err)
	}
	return b, o, nil
}

func canonical(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("marshal leaf: %w", err)
	}
	out, err := jcs.Transform(raw)
	if err != nil {
		return nil, fmt.Errorf("canonical leaf: %w", err)
	}
	return out, nil
}
