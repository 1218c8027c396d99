package ledger

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/openova-io/bp-relay/services/records"
)

// A sequencer whose records lose what it has signed signs nothing more before
// the object store was compared again.
func TestTheRecordsAreRolledBackUnderASequencer(t *testing.T) {
	at := func(size int64, root string) records.Checkpoint {
		return records.Checkpoint{Size: size, Root: tlog.RecordHash([]byte(root))}
	}
	g := newGate()
	require.False(t, g.open(), "the store was not compared yet")
	g.let()
	require.NoError(t, g.follows(records.Checkpoint{}), "the first one of a log")
	require.NoError(t, g.follows(at(7, "a")), "the first one of a term")
	g.signed(at(9, "b"))
	require.NoError(t, g.follows(at(9, "b")))
	require.NoError(t, g.follows(at(12, "c")))
	require.ErrorIs(t, g.follows(at(8, "d")), errRolledBack)
	require.ErrorIs(t, g.follows(at(9, "other")), errRolledBack, "rolled back and grown again")
	require.True(t, g.open())
	g.doubt()
	require.False(t, g.open())
	g.let()
	require.NoError(t, g.follows(at(8, "d")), "the store has decided")
}
