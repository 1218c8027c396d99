package manifest_test

import (
	"bytes"
	"crypto/ed25519"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/format/manifest"
)

// The committed envelope was written by release 1 of the format, with
// go-securesystemslib. It must verify for ever, and the same manifest and key
// must still give the same bytes.
func TestCommittedEnvelope(t *testing.T) {
	const file = "testdata/manifest-v1.dsse.json"
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	m := sample(t, 3)
	env, err := os.ReadFile(file)
	require.NoError(t, err)
	got, err := manifest.Open(env, key.Public().(ed25519.PublicKey))
	require.NoError(t, err)
	require.Equal(t, m, got)
	require.NoError(t, got.Check())
	again, err := manifest.Sign(m, key)
	require.NoError(t, err)
	require.Equal(t, string(env), string(again))
}
