package bag

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/gowebpki/jcs"

	"github.com/openova-io/bp-relay/services/format/dsse"
	"github.com/openova-io/bp-relay/services/format/manifest"
)

// PredicateType is the in-toto predicate type of a statement about a bag.
// OldPredicateType is that of a bag of OldProfile, which lists no files.
const (
	PredicateType    = "https://bp-relay/evidence/bag/v2"
	OldPredicateType = "https://bp-relay/evidence/bag/v1"
)

// ErrSignature: the bag's signature file was altered, or another key signed it.
var ErrSignature = errors.New("bag: signature does not verify")

// Statement is what the bag's signature covers. The tag manifest covers the
// payload manifest and the tag files, and so every byte of the bag.
type Statement struct {
	// TagSums is the hex SHA-256 of tagmanifest-sha256.txt.
	TagSums string `json:"-"`
	// Bag is the bag's top folder.
	Bag string `json:"bag"`
	// Export is the bag's id.
	Export string `json:"export"`
	// Entry is the id of the log's entry about this export.
	Entry string `json:"entry"`
	// Capture is the capture's resource name.
	Capture string `json:"capture"`
	// Log is the checkpoint's origin and Size its number of entries.
	Log  string `json:"log"`
	Size int64  `json:"size"`
	// ModTime is the Unix time in every header of the tar.
	ModTime int64 `json:"mtime"`
	// Files are the hex SHA-256 of the files that nothing else names: all but
	// segments, playable files, proofs, TagSums and Signature. So a file that was
	// changed and listed anew can be named. It is nil in a bag of OldProfile.
	Files map[string]string `json:"files,omitempty"`
}

type statement struct {
	Type          string    `json:"_type"`
	Subject       []subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     Statement `json:"predicate"`
}

type subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

func (s Statement) predicateType() string {
	if s.Files == nil {
		return OldPredicateType
	}
	return PredicateType
}

// Sign returns the DSSE v1 envelope of an in-toto Statement v1 about the bag.
func (s Statement) Sign(key ed25519.PrivateKey) ([]byte, error) {
	raw, err := json.Marshal(statement{
		Type: manifest.StatementType, PredicateType: s.predicateType(), Predicate: s,
		Subject: []subject{{Name: TagSums, Digest: map[string]string{"sha256": s.TagSums}}},
	})
	if err != nil {
		return nil, fmt.Errorf("marshal bag statement: %w", err)
	}
	if raw, err = jcs.Transform(raw); err != nil {
		return nil, fmt.Errorf("canonical bag statement: %w", err)
	}
	out, err := dsse.Sign(manifest.PayloadType, raw, key)
	if err != nil {
		return nil, fmt.Errorf("sign bag: %w", err)
	}
	return out, nil
}

// OpenStatement verifies the envelope with the public key. It returns
// ErrSignature unless the envelope has byte for byte the form that Sign gives.
func OpenStatement(envelope []byte, pub ed25519.PublicKey) (Statement, error) {
	payload, err := dsse.Open(envelope, manifest.PayloadType, pub)
	if err != nil {
		return Statement{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	var st statement
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&st); err != nil {
		return Statement{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	if st.Type != manifest.StatementType || st.PredicateType != st.Predicate.predicateType() || len(st.Subject) != 1 || st.Subject[0].Name != TagSums {
		return Statement{}, fmt.Errorf("%w: predicate type %.100q, want a statement about a bag", ErrSignature, st.PredicateType)
	}
	st.Predicate.TagSums = st.Subject[0].Digest["sha256"]
	return st.Predicate, nil
}
