// Package evidence is the API of the evidence log: custody logs, proofs, and
// exports that anyone can verify offline. Package ledger runs the log; the
// packages under format define entries (leaf), proofs (proof) and exports
// (bag); package verify checks exports.
package evidence

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"

	"github.com/openova-io/bp-relay/services/format/leaf"
	"github.com/openova-io/bp-relay/services/format/proof"
	"github.com/openova-io/bp-relay/services/internal/keyring"
)

// Purposes of the key ring's keys that sign the content of bags.
const (
	// ManifestKey signs the manifests of captures; package capture uses it.
	ManifestKey = "evidence"
	// BagKey signs exported bags.
	BagKey = "evidence-bag"
)

// SigningKeys are the public keys that the log must vouch for, for
// ledger.Config.Signing.
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

// keyOf returns the key that a "log.key" entry vouches for.
func keyOf(o leaf.Opening) (proof.Key, error) {
	var k proof.Key
	if err := json.Unmarshal(o.Detail, &k); err != nil {
		return k, fmt.Errorf("key in the log: %w", err)
	}
	return k, k.Check()
}
