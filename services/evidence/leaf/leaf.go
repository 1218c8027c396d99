// Package leaf makes entries of the evidence log. An entry says that an act
// took place and commits to its details without holding them: the body that
// the Merkle tree hashes has no personal data, only the act's type, its time
// and a salted hash. The details and the salt, the opening, are kept beside
// it in the records, are shown in exports, and can be erased without breaking
// the tree.
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

	"github.com/google/uuid"
	"github.com/gowebpki/jcs"

	"github.com/openova-io/bp-relay/services/store"
)

// Act is what happened. Everything but Type and Time is committed to, not
// published.
type Act struct {
	// Type is a dotted word: "room.created", "recording.sealed",
	// "access.denied".
	Type string
	Org  string
	// Actor is who did it: the token's subject, or "relay" itself.
	Actor string
	// Subject is the resource name that it was done to.
	Subject string
	// Detail is marshalled to JSON: hashes, counts, reasons.
	Detail any
	// Time is when; the zero value means now.
	Time time.Time
}

// Body is the published part of a leaf: canonical JSON, RFC 8785.
type Body struct {
	Commit string `json:"commit"` // base64(SHA-256(canonical JSON of the opening))
	ID     string `json:"id"`
	Time   string `json:"time"`
	Type   string `json:"type"` // dotted words: no character that JSON escapes
	V      int    `json:"v"`
}

// Opening is the erasable part.
type Opening struct {
	Salt    string          `json:"salt"` // base64, 16 random bytes
	Org     string          `json:"org"`
	Actor   string          `json:"actor"`
	Subject string          `json:"subject"`
	Detail  json.RawMessage `json:"detail,omitempty"`
}

// ErrMismatch says that the opening is not the one that the body commits to.
var ErrMismatch = errors.New("leaf: opening does not match the commitment")

// New makes the leaf of an act.
func New(a Act) (store.Leaf, error) {
	if a.Time.IsZero() {
		a.Time = time.Now()
	}
	id, err := uuid.NewV7()
	if err != nil {
		return store.Leaf{}, fmt.Errorf("leaf id: %w", err)
	}
	var salt [16]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return store.Leaf{}, fmt.Errorf("leaf salt: %w", err)
	}
	o := Opening{Salt: base64.StdEncoding.EncodeToString(salt[:]), Org: a.Org, Actor: a.Actor, Subject: a.Subject}
	if a.Detail != nil {
		if o.Detail, err = json.Marshal(a.Detail); err != nil {
			return store.Leaf{}, fmt.Errorf("leaf detail: %w", err)
		}
	}
	opening, err := canonical(o)
	if err != nil {
		return store.Leaf{}, err
	}
	sum := sha256.Sum256(opening)
	at := a.Time.UTC().Truncate(time.Microsecond)
	// The body's fields are in the order of their names and hold nothing that
	// JSON escapes, so this is its canonical form already.
	body, err := json.Marshal(Body{V: 1, ID: id.String(), Type: a.Type, Time: at.Format(time.RFC3339Nano), Commit: base64.StdEncoding.EncodeToString(sum[:])})
	if err != nil {
		return store.Leaf{}, fmt.Errorf("marshal leaf: %w", err)
	}
	return store.Leaf{ID: id.String(), Org: a.Org, Subject: a.Subject, Time: at, Body: body, Opening: opening, Index: -1}, nil
}

// Open parses a leaf's body and checks that the opening is the one it commits
// to. An erased (empty) opening gives the zero Opening and no error.
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
