package leaf_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/gowebpki/jcs"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/format/leaf"
)

const id = "0198c0de-0000-7000-8000-000000000001"

func TestLeafCommitsWithoutTelling(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)
	act := leaf.Act{Type: "session.opened", Org: "acme", Actor: "jane@example.org", Subject: "orgs/acme/sessions/1", Detail: map[string]string{"reason": "ticket 7"}, Time: at}
	l, err := leaf.New(id, act)
	require.NoError(t, err)
	for _, personal := range []string{"jane", "acme", "ticket", "sessions/1"} {
		require.NotContains(t, string(l.Body), personal)
	}
	require.Equal(t, id, l.ID)
	require.Equal(t, int64(-1), l.Index)
	canonical, err := jcs.Transform(l.Body)
	require.NoError(t, err)
	require.Equal(t, string(canonical), string(l.Body), "RFC 8785")

	body, opening, err := leaf.Open(l.Body, l.Opening)
	require.NoError(t, err)
	require.Equal(t, "session.opened", body.Type)
	require.Equal(t, id, body.ID)
	require.Equal(t, "2026-03-01T12:00:00.123456Z", body.Time)
	require.Equal(t, "jane@example.org", opening.Actor)
	require.JSONEq(t, `{"reason":"ticket 7"}`, string(opening.Detail))

	again, err := leaf.New(id, act)
	require.NoError(t, err)
	require.NotEqual(t, commitment(t, l.Body), commitment(t, again.Body), "the salt hides equal acts")
}

func commitment(t *testing.T, raw []byte) string {
	t.Helper()
	var b leaf.Body
	require.NoError(t, json.Unmarshal(raw, &b))
	return b.Commit
}

func TestAlteredOpeningIsRefused(t *testing.T) {
	l, err := leaf.New(id, leaf.Act{Type: "x", Org: "acme", Actor: "jane", Subject: "orgs/acme/rooms/r"})
	require.NoError(t, err)
	_, _, err = leaf.Open(l.Body, bytes.Replace(l.Opening, []byte("jane"), []byte("john"), 1))
	require.ErrorIs(t, err, leaf.ErrMismatch)
	_, o, err := leaf.Open(l.Body, nil)
	require.NoError(t, err, "an erased opening is not an error")
	require.Zero(t, o)
}

func TestIDMustBeAUUID(t *testing.T) {
	for _, bad := range []string{"", "x", id[1:], id + "0", "0198C0DE-0000-7000-8000-000000000001", "0198c0de000007000080000000000000001-", "0198c0de-0000-7000-8000-00000000000\""} {
		_, err := leaf.New(bad, leaf.Act{Type: "x"})
		require.Error(t, err, "%q", bad)
	}
}
