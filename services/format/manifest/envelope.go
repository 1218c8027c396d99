package manifest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/openova-io/bp-relay/services/format/dsse"
)

// Types of the envelope for other tools: DSSE v1 around an in-toto Statement
// v1.
const (
	PayloadType   = "application/vnd.in-toto+json"
	StatementType = "https://in-toto.io/Statement/v1"
	PredicateType = "https://bp-relay/evidence/seal/v1"
	// ChainDigest names the digest in the statement's subjects: the last hash
	// of a stream's chain.
	ChainDigest = "bpRelayChain"
)

// ErrSignature: the envelope was altered, or another key signed it.
var ErrSignature = errors.New("manifest: signature does not verify")

// statement is an in-toto Statement v1 with one subject per stream.
type statement struct {
	Type          string    `json:"_type"`
	Subject       []subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     Manifest  `json:"predicate"`
}

type subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

func subjectOf(capture, stream, head string) subject {
	return subject{Name: capture + "/streams/" + stream, Digest: map[string]string{ChainDigest: head}}
}

// Sign makes the DSSE envelope of a manifest. The same manifest and key give
// the same bytes (canonical JSON, deterministic Ed25519), so that sealing again
// after a crash writes the same object.
func Sign(m Manifest, key ed25519.PrivateKey) ([]byte, error) {
	st := statement{Type: StatementType, PredicateType: PredicateType, Predicate: m, Subject: []subject{}}
	for _, s := range m.Streams {
		st.Subject = append(st.Subject, subjectOf(m.Capture, s.Name, s.Head))
	}
	payload, err := canonical(st)
	if err != nil {
		return nil, err
	}
	out, err := dsse.Sign(PayloadType, payload, key)
	if err != nil {
		return nil, fmt.Errorf("sign manifest: %w", err)
	}
	return out, nil
}

// Open verifies the envelope's signature and returns the manifest. It returns
// ErrSignature if the bytes were altered or another key signed them. It does
// not check the chains: see Manifest.Check. Read is for manifests that are too
// large for memory.
func Open(envelope []byte, pub ed25519.PublicKey) (Manifest, error) {
	payload, err := dsse.Open(envelope, PayloadType, pub)
	if err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	var st statement
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.DisallowUnknownFields() // never skip a signed field that this program does not know
	if err := dec.Decode(&st); err != nil {
		return Manifest{}, fmt.Errorf("manifest statement: %w", err)
	}
	if st.Type != StatementType || st.PredicateType != PredicateType {
		return Manifest{}, fmt.Errorf("manifest statement has type %q and predicate type %q, want %q and %q", st.Type, st.PredicateType, StatementType, PredicateType)
	}
	return st.Predicate, nil
}

// SHA256 is the lower-case hex digest that names envelopes and objects.
func SHA256(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
