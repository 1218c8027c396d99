package resource_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/sqlite"
)

func rooms() resource.Type {
	return resource.Type{Kind: records.Rooms, Pattern: "orgs/{org}/rooms/{room}", Missing: errorsv1.Reason_REASON_ROOM_NOT_FOUND}
}

func open(t *testing.T) records.DB {
	t.Helper()
	db, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "records.db")})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func reason(err error) string { return apierr.ReasonName(apierr.FromDomain(err).Reason()) }

func TestNames(t *testing.T) {
	name := rooms().Name("acme", "standup")
	require.Equal(t, "orgs/acme/rooms/standup", name)
	org, id, err := rooms().Parse(name)
	require.NoError(t, err)
	require.Equal(t, "acme standup", org+" "+id)
	for _, bad := range []string{"", "orgs/acme", "orgs/acme/sessions/a", "orgs/acme/rooms/a/b", "x/orgs/acme/rooms/a"} {
		_, _, err := rooms().Parse(bad)
		require.Error(t, err, bad)
	}
	first, err := rooms().NewName("acme")
	require.NoError(t, err)
	second, err := rooms().NewName("acme")
	require.NoError(t, err)
	require.Less(t, first, second, "names of new resources sort by age")
	require.Equal(t, "acme", resource.Org("orgs/acme/rooms/standup"))
	require.Equal(t, "acme", resource.Org("orgs/acme"))
	require.Equal(t, "orgs/acme", resource.Parent("acme"))
}

func TestGet(t *testing.T) {
	db, name := open(t), rooms().Name("acme", "a")
	_, err := rooms().View(t.Context(), db, name)
	require.Equal(t, "ROOM_NOT_FOUND", reason(err))
	require.ErrorIs(t, err, records.ErrNotFound)
	require.NoError(t, db.Update(t.Context(), func(tx records.Tx) error {
		rec, err := rooms().GetOrNew(t.Context(), tx, "acme", name)
		require.NoError(t, err)
		require.Zero(t, rec.Version)
		rec.Body = []byte(`{"a": 1}`)
		_, err = tx.Insert(t.Context(), rec)
		return err
	}))
	rec, err := rooms().View(t.Context(), db, name)
	require.NoError(t, err)
	body, err := resource.Body[map[string]int](rec)
	require.NoError(t, err)
	require.Equal(t, 1, body["a"])
	_, err = resource.Body[[]string](rec)
	require.ErrorContains(t, err, name)
	require.NoError(t, resource.CheckEtag(rec, ""))
	require.NoError(t, resource.CheckEtag(rec, resource.Etag(rec)))
	require.Equal(t, "ETAG_MISMATCH", reason(resource.CheckEtag(rec, "7")))
}

func TestOnce(t *testing.T) {
	db := open(t)
	req := &roomv1.CreateRoomRequest{Parent: "orgs/acme", RequestId: uuid.NewString()}
	ran := 0
	call := func() (string, error) {
		key, err := resource.RequestKey("acme", "/Create", req)
		require.NoError(t, err)
		answer := new(roomv1.CreateRoomResponse)
		err = resource.Once(t.Context(), db, key, answer, func(records.Tx) error {
			ran++
			answer.Room = &roomv1.Room{Uid: fmt.Sprint(ran)}
			return nil
		})
		return answer.GetRoom().GetUid(), err
	}
	for range 2 {
		uid, err := call()
		require.NoError(t, err)
		require.Equal(t, "1", uid, "the first answer")
	}
	req.RoomId = "other"
	_, err := call()
	require.Equal(t, "REQUEST_ID_REUSED", reason(err))
	req.RequestId = ""
	for i := range 2 {
		uid, err := call()
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(i+2), uid, "nothing is remembered without a request_id")
	}
	_, err = resource.RequestKey("acme", "/Get", &roomv1.GetRoomRequest{})
	require.ErrorContains(t, err, "request_id")

	failed := errors.New("failed")
	key, err := resource.RequestKey("acme", "/Create", &roomv1.CreateRoomRequest{RequestId: uuid.NewString()})
	require.NoError(t, err)
	require.ErrorIs(t, resource.Once(t.Context(), db, key, new(roomv1.CreateRoomResponse), func(records.Tx) error { return failed }), failed)
	known := false
	require.NoError(t, db.View(t.Context(), func(tx records.Tx) (err error) {
		known, err = resource.Replay(t.Context(), tx, key, new(roomv1.CreateRoomResponse))
		return err
	}))
	require.False(t, known, "a failure is not remembered")
}

func TestList(t *testing.T) {
	db := open(t)
	require.NoError(t, db.Update(t.Context(), func(tx records.Tx) error {
		for i := range 7 {
			_, err := tx.Insert(t.Context(), records.Record{Kind: records.Rooms, Org: "acme", Name: rooms().Name("acme", fmt.Sprint(i))})
			if err != nil {
				return err
			}
		}
		return nil
	}))
	q := records.Query{Kind: records.Rooms, Org: "acme"}
	for size, want := range map[int32][]int{3: {3, 3, 1}, 7: {7}, 6: {6, 1}, 0: {7}, 1001: {7}} {
		var got []int
		for token, more := "", true; more; more = token != "" {
			page, next, err := resource.List(t.Context(), db, q, size, token)
			require.NoError(t, err)
			got, token = append(got, len(page)), next
		}
		require.Equal(t, want, got, "page_size %d", size)
	}
	_, next, err := resource.List(t.Context(), db, q, 3, "")
	require.NoError(t, err)
	q.States = []string{"OPEN"}
	_, _, err = resource.List(t.Context(), db, q, 3, next)
	require.Equal(t, "PAGE_TOKEN_INVALID", reason(err), "the token of another query")
}
