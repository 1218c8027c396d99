// Package dsse signs and verifies DSSE v1 envelopes with Ed25519: the
// signature wrapper that in-toto and other attestation tools read. The
// specification is https://github.com/secure-systems-lab/dsse, files
// protocol.md (what is signed) and envelope.md (the JSON form). The package
// exists because the reference library links SSH and network code, which the
// offline verifier must not.
//
// It reads only the one form that Sign writes: an envelope with one signature,
// in standard base64, without white space. Other tools may accept more forms of
// the same statement; evidence has one, so that every changed byte is noticed.
package dsse

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// ErrSignature: the envelope does not have the form that Sign gives, or its
// signature is not the given key's over its payload and payload type.
var ErrSignature = errors.New("dsse: signature does not verify")

// envelope is the JSON form of a signed payload (envelope.md).
type envelope struct {
	PayloadType string      `json:"payloadType"`
	Payload     string      `json:"payload"` // base64
	Signatures  []signature `json:"signatures"`
}

// signature is one signature of an envelope.
type signature struct {
	// KeyID is a hint which key to verify with; it is not signed.
	KeyID string `json:"keyid"`
	Sig   string `json:"sig"` // base64
}

// Sign returns the envelope of payload as JSON, with one signature. The same
// arguments give the same bytes (RFC 8032: Ed25519 is deterministic).
func Sign(payloadType string, payload []byte, key ed25519.PrivateKey) ([]byte, error) {
	id, err := KeyID(key.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, err
	}
	sig := ed25519.Sign(key, PAE(payloadType, payload))
	out, err := json.Marshal(envelope{
		PayloadType: payloadType,
		Payload:     base64.StdEncoding.EncodeToString(payload),
		Signatures:  []signature{{KeyID: id, Sig: base64.StdEncoding.EncodeToString(sig)}},
	})
	if err != nil {
		return nil, fmt.Errorf("marshal envelope: %w", err)
	}
	return out, nil
}

// Open verifies an envelope and returns its payload. It fails with ErrSignature
// unless text is byte for byte what Sign gives for this type and key.
func Open(text []byte, payloadType string, pub ed25519.PublicKey) ([]byte, error) {
	e, err := Read(bytes.NewReader(text), int64(len(text)), payloadType)
	if err != nil {
		return nil, err
	}
	if err := e.Verify(pub); err != nil {
		return nil, err
	}
	payload, err := io.ReadAll(e.Payload())
	if err != nil {
		return nil, fmt.Errorf("%w: payload: %w", ErrSignature, err)
	}
	return payload, nil
}

// PAE is the pre-authentication encoding, the bytes that are signed:
// "DSSEv1" SP LEN(type) SP type SP LEN(payload) SP payload, with lengths in
// ASCII decimal (protocol.md, "Signature Definition").
func PAE(payloadType string, payload []byte) []byte {
	return append(paeHead(payloadType, int64(len(payload))), payload...)
}

// paeHead is PAE without the payload, of n bytes.
func paeHead(payloadType string, n int64) []byte {
	out := make([]byte, 0, len(payloadType)+64)
	out = append(out, "DSSEv1 "...)
	out = strconv.AppendInt(out, int64(len(payloadType)), 10)
	out = append(out, ' ')
	out = append(out, payloadType...)
	out = append(out, ' ')
	out = strconv.AppendInt(out, n, 10)
	return append(out, ' ')
}

// KeyID is how envelopes name a key: its fingerprint as ssh-keygen -l prints
// it, "SHA256:" and unpadded base64 of the SHA-256 of the key's SSH wire
// format (RFC 8709 §4).
func KeyID(pub ed25519.PublicKey) (string, error) {
	if len(pub) != ed25519.PublicKeySize {
		return "", fmt.Errorf("Ed25519 public key of %d bytes, want %d", len(pub), ed25519.PublicKeySize)
	}
	const algorithm = "ssh-ed25519"
	blob := binary.BigEndian.AppendUint32(nil, uint32(len(algorithm)))
	blob = append(blob, algorithm...)
	blob = binary.BigEndian.AppendUint32(blob, uint32(len(pub)))
	sum := sha256.Sum256(append(blob, pub...))
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:]), nil
}
