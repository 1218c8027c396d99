package bag_test

import (
	"bytes"
	"crypto/ed25519"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/format/bag"
	"github.com/openova-io/bp-relay/services/format/dsse"
)

// The committed envelope was written by release 1 of the format, with
// go-securesystemslib. It must verify for ever, and the same statement and key
// must still give the same bytes.
func TestCommittedStatement(t *testing.T) {
	const file = "testdata/statement-v1.dsse.json"
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	st := bag.Statement{
		TagSums: strings.Repeat("ab", 32), Bag: "evidence-c1-20260304T050607Z", Export: "0198-e", Entry: "0198-l",
		Capture: "orgs/acme/captures/c1", Log: "relay.example/log", Size: 42, ModTime: 1772600767,
	}
	env, err := os.ReadFile(file)
	require.NoError(t, err)
	got, err := bag.OpenStatement(env, key.Public().(ed25519.PublicKey))
	require.NoError(t, err)
	require.Equal(t, st, got)
	again, err := st.Sign(key)
	require.NoError(t, err)
	require.Equal(t, string(env), string(again))
	require.Equal(t, "SHA256:z/fSv0Z0RZS+Lccbc6ZoOWwt/fbj1VFJGSBKQbo4icE", dsse.SignerID(env))
}
