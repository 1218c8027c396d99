// Package evidence is the API for the evidence log: custody logs, proofs and
// exports that anybody can verify offline. The log itself is in ledger, the
// form of an export in bag, its verification in verify, the texts of proofs
// in proof, and the entries in leaf.
package evidence

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/openova-io/bp-relay/services/evidence/leaf"
	"github.com/openova-io/bp-relay/services/evidence/proof"
	"github.com/openova-io/bp-relay/services/internal/keyring"
)

// ErrNotSealed says that the capture is still recording or being stored.
var ErrNotSealed = errors.New("evidence: capture is not sealed yet")

// Keyring purposes of the keys that sign what bags hold.
const (
	// ManifestKey signs the manifests of captures; package capture uses it.
	ManifestKey = "evidence"
	// BagKey signs exported bags.
	BagKey = "evidence-bag"
)

// SigningKeys are the public keys that the log must vouch for: what the
// ledger's Config.Signing wants.
func SigningKeys(k *keyring.Keyring) ([]proof.Key, error) {
	var keys []proof.Key
	for _, p := range []struct{ purpose, name string }{{proof.ManifestPurpose, ManifestKey}, {proof.BagPurpose, BagKey}} {
		pub, ok := k.Ed25519(p.name).Public().(ed25519.PublicKey)
		if !ok {
			return nil, fmt.Errorf("key %s is not Ed25519", p.name)
		}
		key, err := proof.NewKey(p.purpose, pub)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", p.name, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// keyOf reads the key that a "log.key" entry vouches for.
func keyOf(o leaf.Opening) (proof.Key, error) {
	var k proof.Key
	if err := json.Unmarshal(o.Detail, &k); err != nil {
		return k, fmt.Errorf("key in the log: %w", err)
	}
	return k, k.Check()
}
