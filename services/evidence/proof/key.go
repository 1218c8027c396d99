package proof

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"github.com/openova-io/bp-relay/services/capture/manifest"
)

const (
	// KeyType is the type of the leaf by which the log vouches for a key.
	KeyType = "log.key"
	// LogSubject is the resource that leaves about the log itself are about.
	LogSubject = "log"
	// ManifestPurpose is a key's that seals captures.
	ManifestPurpose = "manifest"
	// BagPurpose is a key's that signs exported bags.
	BagPurpose = "bag"
)

// Key is what a "log.key" leaf commits to. By it the log's own key is all
// that is needed to trust this one for this purpose.
type Key struct {
	Purpose string `json:"purpose"`
	// ID is how DSSE signatures name the key: manifest.KeyID.
	ID string `json:"keyid"`
	// Algorithm is "ed25519".
	Algorithm string `json:"algorithm"`
	// Public is the raw key (base64 in JSON).
	Public []byte `json:"public_key"`
}

// NewKey describes a public key.
func NewKey(purpose string, pub ed25519.PublicKey) (Key, error) {
	id, err := manifest.KeyID(pub)
	if err != nil {
		return Key{}, err
	}
	return Key{Purpose: purpose, ID: id, Algorithm: "ed25519", Public: pub}, nil
}

// Check says whether the fields agree with each other.
func (k Key) Check() error {
	if k.Algorithm != "ed25519" || len(k.Public) != ed25519.PublicKeySize {
		return fmt.Errorf("%w: key of algorithm %q, %d bytes", ErrMalformed, clip(k.Algorithm), len(k.Public))
	}
	id, err := manifest.KeyID(k.Public)
	if err != nil {
		return err
	}
	if id != k.ID {
		return fmt.Errorf("%w: key %q names itself %q", ErrMalformed, id, clip(k.ID))
	}
	return nil
}

// PEM is the key as other tools read it (SubjectPublicKeyInfo, RFC 8410).
func (k Key) PEM() ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(ed25519.PublicKey(k.Public))
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}
