package manifest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/secure-systems-lab/go-securesystemslib/dsse"
)

// The types by which other tools recognise the envelope: DSSE v1 around an
// in-toto Statement v1.
const (
	PayloadType   = "application/vnd.in-toto+json"
	StatementType = "https://in-toto.io/Statement/v1"
	PredicateType = "https://bp-relay/evidence/seal/v1"
	// ChainDigest is the digest algorithm's name in the statement's subjects:
	// the last hash of a stream's chain.
	ChainDigest = "bpRelayChain"
)

// ErrSignature says that the envelope is not signed by that key, or was altered.
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

// Sign makes the DSSE envelope of a manifest. The same manifest and key give
// the same bytes (canonical JSON, Ed25519 as in RFC 8032), so that sealing
// again after a crash writes the same object.
func Sign(m Manifest, key ed25519.PrivateKey) ([]byte, error) {
	st := statement{Type: StatementType, PredicateType: PredicateType, Predicate: m, Subject: []subject{}}
	for _, s := range m.Streams {
		st.Subject = append(st.Subject, subject{Name: m.Capture + "/streams/" + s.Name, Digest: map[string]string{ChainDigest: s.Head}})
	}
	payload, err := canonical(st)
	if err != nil {
		return nil, err
	}
	signer, err := dsse.NewEnvelopeSigner(signerVerifier{pub: key.Public().(ed25519.PublicKey), key: key})
	if err != nil {
		return nil, fmt.Errorf("manifest signer: %w", err)
	}
	env, err := signer.SignPayload(context.Background(), PayloadType, payload)
	if err != nil {
		return nil, fmt.Errorf("sign manifest: %w", err)
	}
	out, err := json.Marshal(env)
	if err != nil {
		return nil, fmt.Errorf("marshal envelope: %w", err)
	}
	return out, nil
}

// Open checks the envelope's signature with the public key and returns the
// manifest. It fails with ErrSignature for another key or altered bytes. It
// does not check the chains: see Manifest.Check.
func Open(envelope []byte, pub ed25519.PublicKey) (Manifest, error) {
	var env dsse.Envelope
	if err := json.Unmarshal(envelope, &env); err != nil {
		return Manifest{}, fmt.Errorf("manifest envelope: %w", err)
	}
	if env.PayloadType != PayloadType {
		return Manifest{}, fmt.Errorf("manifest envelope holds %q, want %q", env.PayloadType, PayloadType)
	}
	v, err := dsse.NewEnvelopeVerifier(signerVerifier{pub: pub})
	if err != nil {
		return Manifest{}, fmt.Errorf("manifest verifier: %w", err)
	}
	_, payload, err := v.VerifyAndDecode(context.Background(), &env)
	if err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	var st statement
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.DisallowUnknownFields() // a signed word that we do not understand is not one to pass over
	if err := dec.Decode(&st); err != nil {
		return Manifest{}, fmt.Errorf("manifest statement: %w", err)
	}
	if st.Type != StatementType || st.PredicateType != PredicateType {
		return Manifest{}, fmt.Errorf("manifest statement is a %q about a %q", st.Type, st.PredicateType)
	}
	return st.Predicate, nil
}

// SHA256 is the lower-case hex digest by which envelopes and objects are
// named.
func SHA256(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// KeyID is how an envelope names its signing key: the fingerprint that
// ssh-keygen -l prints for it, "SHA256:" and base64.
func KeyID(pub ed25519.PublicKey) (string, error) {
	id, err := dsse.SHA256KeyID(pub)
	if err != nil {
		return "", fmt.Errorf("key id: %w", err)
	}
	return id, nil
}

// signerVerifier is Ed25519 for dsse.
type signerVerifier struct {
	pub ed25519.PublicKey
	key ed25519.PrivateKey
}

func (s signerVerifier) Sign(_ context.Context, data []byte) ([]byte, error) {
	return ed25519.Sign(s.key, data), nil
}

func (s signerVerifier) Verify(_ context.Context, data, sig []byte) error {
	if !ed25519.Verify(s.pub, data, sig) {
		return ErrSignature
	}
	return nil
}

func (s signerVerifier) KeyID() (string, error) { return KeyID(s.pub) }

func (s signerVerifier) Public() crypto.PublicKey { return s.pub }
