package proof

import (
	"crypto/ed25519"
	"encoding/pem"
	"fmt"

	"github.com/openova-io/bp-relay/services/format/dsse"
)

const (
	// KeyType is the type of leaves that vouch for a signing key.
	KeyType = "log.key"
	// LogSubject is the subject of leaves about the log itself.
	LogSubject = "log"
	// ManifestPurpose is the purpose of a key that signs manifests.
	ManifestPurpose = "manifest"
	// BagPurpose is the purpose of a key that signs exported bags.
	BagPurpose = "bag"
)

// Key is what a "log.key" leaf commits to: whoever trusts the log's own key
// can trust this key for this purpose.
type Key struct {
	Purpose string `json:"purpose"`
	// ID is dsse.KeyID of the key.
	ID string `json:"keyid"`
	// Algorithm is "ed25519".
	Algorithm string `json:"algorithm"`
	// Public is the raw key (base64 in JSON).
	Public []byte `json:"public_key"`
}

// NewKey describes a public key.
func NewKey(purpose string, pub ed25519.PublicKey) (Key, error) {
	id, err := dsse.KeyID(pub)
	if err != nil {
		return Key{}, err
	}
	return Key{Purpose: purpose, ID: id, Algorithm: "ed25519", Public: pub}, nil
}

// Check returns ErrMalformed if the fields contradict each other.
func (k Key) Check() error {
	if k.Algorithm != "ed25519" || len(k.Public) != ed25519.PublicKeySize {
		return fmt.Errorf("%w: key of algorithm %q with %d bytes, want ed25519 with %d", ErrMalformed, clip(k.Algorithm), len(k.Public), ed25519.PublicKeySize)
	}
	id, err := dsse.KeyID(k.Public)
	if err != nil {
		return err
	}
	if id != k.ID {
		return fmt.Errorf("%w: key %q has the id %q", ErrMalformed, id, clip(k.ID))
	}
	return nil
}

// PEM is the key for other tools: a SubjectPublicKeyInfo, whose DER is a fixed
// prefix and the key (RFC 8410 §4, §10.1). crypto/x509 would link network code
// into the verifier.
func (k Key) PEM() ([]byte, error) {
	if len(k.Public) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%w: key of %d bytes", ErrMalformed, len(k.Public))
	}
	const prefix = "\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00"
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: append([]byte(prefix), k.Public...)}), nil
}
