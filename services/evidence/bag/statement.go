package bag

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/gowebpki/jcs"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/openova-io/bp-relay/services/capture/manifest"
)

// PredicateType marks the statement about a bag.
const PredicateType = "https://bp-relay/evidence/bag/v1"

// ErrSignature says that the bag's signature file is altered or by another key.
var ErrSignature = errors.New("bag: signature does not verify")

// Statement is what the bag's signature says. The tag manifest covers the
// payload manifest and the tag files, and so every byte of the bag.
type Statement struct {
	// TagSums is the hex SHA-256 of tagmanifest-sha256.txt.
	TagSums string `json:"-"`
	// Bag is the tar's top folder, Export the bag's id.
	Bag    string `json:"bag"`
	Export string `json:"export"`
	// Entry is the id of the log's entry about this export.
	Entry string `json:"entry"`
	// Capture is the resource name.
	Capture string `json:"capture"`
	// Log is the log's origin; Size is the checkpoint's.
	Log  string `json:"log"`
	Size int64  `json:"size"`
	// ModTime is the Unix time in every header of the tar.
	ModTime int64 `json:"mtime"`
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

// Sign makes the DSSE envelope of a statement (DSSE v1 around in-toto
// Statement v1).
func (s Statement) Sign(key ed25519.PrivateKey) ([]byte, error) {
	raw, err := json.Marshal(statement{
		Type: manifest.StatementType, PredicateType: PredicateType, Predicate: s,
		Subject: []subject{{Name: TagSums, Digest: map[string]string{"sha256": s.TagSums}}},
	})
	if err != nil {
		return nil, fmt.Errorf("marshal bag statement: %w", err)
	}
	if raw, err = jcs.Transform(raw); err != nil {
		return nil, fmt.Errorf("canonical bag statement: %w", err)
	}
	signer, err := dsse.NewEnvelopeSigner(ed25519Key{pub: key.Public().(ed25519.PublicKey), key: key})
	if err != nil {
		return nil, fmt.Errorf("bag signer: %w", err)
	}
	env, err := signer.SignPayload(context.Background(), manifest.PayloadType, raw)
	if err != nil {
		return nil, fmt.Errorf("sign bag: %w", err)
	}
	return json.Marshal(env)
}

// OpenStatement checks the envelope with the public key, to the byte: no byte
// of it is without a meaning.
func OpenStatement(envelope []byte, pub ed25519.PublicKey) (Statement, error) {
	var env dsse.Envelope
	if err := json.Unmarshal(envelope, &env); err != nil {
		return Statement{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	v, err := dsse.NewEnvelopeVerifier(ed25519Key{pub: pub})
	if err != nil {
		return Statement{}, fmt.Errorf("bag verifier: %w", err)
	}
	_, payload, err := v.VerifyAndDecode(context.Background(), &env)
	if err != nil {
		return Statement{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	var st statement
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&st); err != nil {
		return Statement{}, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	if st.Type != manifest.StatementType || st.PredicateType != PredicateType || len(st.Subject) != 1 || st.Subject[0].Name != TagSums {
		return Statement{}, fmt.Errorf("%w: a %q, not about a bag", ErrSignature, st.PredicateType)
	}
	st.Predicate.TagSums = st.Subject[0].Digest["sha256"]
	for i, g := range env.Signatures {
		// Base64 has bits that decoding drops: they must be as encoding sets them.
		if sig, err := base64.StdEncoding.DecodeString(g.Sig); err == nil {
			env.Signatures[i].Sig = base64.StdEncoding.EncodeToString(sig)
		}
	}
	env.Payload = base64.StdEncoding.EncodeToString(payload)
	if again, err := json.Marshal(env); err != nil || len(env.Signatures) != 1 || !bytes.Equal(again, envelope) {
		return Statement{}, fmt.Errorf("%w: not in the form it was written in", ErrSignature)
	}
	return st.Predicate, nil
}

// SignerID is the key that an envelope says it is signed by, "" where it is
// not an envelope. It is only a hint of which key to check with.
func SignerID(envelope []byte) string {
	var env dsse.Envelope
	if json.Unmarshal(envelope, &env) != nil || len(env.Signatures) == 0 {
		return ""
	}
	return env.Signatures[0].KeyID
}

// ed25519Key is Ed25519 for dsse.
type ed25519Key struct {
	pub ed25519.PublicKey
	key ed25519.PrivateKey
}

func (k ed25519Key) Sign(_ context.Context, data []byte) ([]byte, error) {
	return ed25519.Sign(k.key, data), nil
}

func (k ed25519Key) Verify(_ context.Context, data, sig []byte) error {
	if !ed25519.Verify(k.pub, data, sig) {
		return ErrSignature
	}
	return nil
}

func (k ed25519Key) KeyID() (string, error) { return manifest.KeyID(k.pub) }

func (k ed25519Key) Public() crypto.PublicKey { return k.pub }
