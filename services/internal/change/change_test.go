package change_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/format/leaf"
	"github.com/openova-io/bp-relay/services/internal/change"
	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/sqlite"
)

func TestEventAndLeafAreWrittenTogether(t *testing.T) {
	st, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "records.db")})
	require.NoError(t, err)
	defer func() { require.NoError(t, st.Close()) }()
	const name = "orgs/acme/rooms/standup"
	note := func(then error) error {
		return st.Update(t.Context(), func(tx records.Tx) error {
			return errors.Join(change.Note(t.Context(), tx, "room.created", "jane", name, map[string]string{"uid": "1"}), then)
		})
	}
	undone := errors.New("the change failed")
	require.ErrorIs(t, note(undone), undone)
	require.NoError(t, note(nil))

	leaves, err := st.Log().LeavesOf(t.Context(), "acme", name, -1, 10)
	require.NoError(t, err)
	require.Len(t, leaves, 1, "nothing is told of a change that did not happen")
	body, opening, err := leaf.Open(leaves[0].Body, leaves[0].Opening)
	require.NoError(t, err)
	require.Equal(t, "room.created", body.Type)
	require.Equal(t, "jane", opening.Actor)
	_, err = st.Log().NumberEvents(t.Context(), 1, 10)
	require.NoError(t, err)
	events, err := st.Log().Events(t.Context(), "acme", 0, 10)
	require.NoError(t, err)
	require.Len(t, events, 1)
	require.Equal(t, leaves[0].ID, events[0].ID)
	require.JSONEq(t, `{"uid": "1"}`, string(events[0].Body))
}
