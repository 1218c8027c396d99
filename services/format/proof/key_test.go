package proof_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/format/proof"
)

func TestPEMIsWhatCryptoX509Writes(t *testing.T) {
	pub := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{3}, ed25519.SeedSize)).Public().(ed25519.PublicKey)
	k, err := proof.NewKey(proof.BagPurpose, pub)
	require.NoError(t, err)
	require.NoError(t, k.Check())
	text, err := k.PEM()
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(pub)
	require.NoError(t, err)
	require.Equal(t, string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), string(text))

	k.Public = k.Public[:31]
	_, err = k.PEM()
	require.ErrorIs(t, err, proof.ErrMalformed)
	require.ErrorIs(t, k.Check(), proof.ErrMalformed)
}
