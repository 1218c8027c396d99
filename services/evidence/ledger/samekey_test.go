package ledger_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/evidence/evidencetest"
	"github.com/openova-io/bp-relay/services/evidence/ledger"
	"github.com/openova-io/bp-relay/services/format/leaf"
	"github.com/openova-io/bp-relay/services/internal/keyring"
)

// A process with another master key than that of the records must notice before
// it writes anything.
func TestSameKey(t *testing.T) {
	r := evidencetest.New(t, 1, seaweed(t), bucket(t))
	other, err := keyring.New(bytes.Repeat([]byte{0xee}, 32))
	require.NoError(t, err)
	for _, keys := range []*keyring.Keyring{r.Keys, other} {
		require.NoError(t, ledger.SameKey(t.Context(), r.Records, keys), "new records go with any key")
	}
	stop := r.Run(t)
	_, err = r.Ledger.Await(t.Context(), r.Add(t, leaf.Act{Type: "room.created", Org: "acme", Actor: "alice", Subject: "orgs/acme/rooms/r"}), 10*time.Second)
	require.NoError(t, err)
	stop()
	require.NoError(t, ledger.SameKey(t.Context(), r.Records, r.Keys))
	require.ErrorIs(t, ledger.SameKey(t.Context(), r.Records, other), ledger.ErrKey)
}
