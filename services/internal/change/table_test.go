package change_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"

	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/change"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/sqlite"
)

type door struct{ Opened int }

func doors() resource.Type {
	return resource.Type{Kind: records.Rooms, Pattern: "orgs/{org}/doors/{door}", Missing: errorsv1.Reason_REASON_ROOM_NOT_FOUND}
}

func table() change.Table {
	return change.Table{
		{From: "", Verb: "open", To: "OPEN", Event: "door.opened"},
		{From: "OPEN", Verb: "close", To: "CLOSED", Event: "door.closed"},
		{From: "CLOSED", Verb: "close", To: "CLOSED"},
	}
}

func step(verb string) change.Step[door] {
	return change.Step[door]{Verb: verb, Actor: "jane", Edit: func(d *door) any { d.Opened++; return map[string]string{"by": verb} }}
}

func TestApplyFollowsTheTable(t *testing.T) {
	db, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "records.db")})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	ctx, name := t.Context(), doors().Name("acme", "front")
	run := func(s change.Step[door]) (records.Record, error) {
		return change.Run(ctx, db, doors(), table(), name, s)
	}

	_, err = run(step("close"))
	require.Equal(t, "ROOM_NOT_FOUND", apierr.ReasonName(apierr.FromDomain(err).Reason()))
	require.NoError(t, db.Update(ctx, func(tx records.Tx) error {
		rec, err := doors().GetOrNew(ctx, tx, "acme", name)
		require.NoError(t, err)
		_, err = change.Apply(ctx, tx, table(), rec, step("close"))
		var refused *change.StateError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, change.StateError{Name: name, Verb: "close"}, *refused)
		rec, err = change.Apply(ctx, tx, table(), rec, step("open"))
		require.EqualValues(t, 1, rec.Version)
		return err
	}))
	_, err = run(step("open"))
	require.ErrorContains(t, err, `is "OPEN", which does not allow open`)
	// A newer release has written a field that this program does not know.
	require.NoError(t, db.Update(ctx, func(tx records.Tx) error {
		rec, err := doors().Get(ctx, tx, name)
		require.NoError(t, err)
		rec.Body = []byte(`{"Opened": 1, "lock": {"key": 7}}`)
		_, err = tx.Update(ctx, rec)
		return err
	}))
	unwanted := step("close")
	unwanted.If = func(rec records.Record, d *door) bool { return rec.State != "OPEN" || d.Opened != 1 }
	rec, err := run(unwanted)
	require.NoError(t, err)
	require.Equal(t, "OPEN", rec.State)
	for range 2 {
		rec, err = run(step("close"))
		require.NoError(t, err)
		require.Equal(t, "CLOSED 3", rec.State+" "+resource.Etag(rec), "closing a closed door changes nothing")
	}
	require.JSONEq(t, `{"Opened": 2, "lock": {"key": 7}}`, string(rec.Body))

	leaves, err := db.Log().LeavesOf(ctx, "acme", name, -1, 10)
	require.NoError(t, err)
	_, err = db.Log().NumberEvents(ctx, 1, 10)
	require.NoError(t, err)
	events, err := db.Log().Events(ctx, "acme", 0, 10)
	require.NoError(t, err)
	require.Len(t, leaves, 2)
	require.Len(t, events, 2)
	require.Equal(t, "door.opened door.closed", events[0].Type+" "+events[1].Type)
	require.JSONEq(t, `{"by": "close"}`, string(events[1].Body))
}

// Two who change the same record at once: both succeed, one after the other.
func TestRunTriesAgainAfterAConflict(t *testing.T) {
	sq, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "records.db")})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, sq.Close()) })
	name := doors().Name("acme", "front")
	require.NoError(t, sq.Update(t.Context(), func(tx records.Tx) error {
		_, err := change.Apply(t.Context(), tx, table(), records.Record{Kind: records.Rooms, Org: "acme", Name: name}, step("open"))
		return err
	}))
	db := &conflicting{DB: sq, times: 2}
	rec, err := change.Run(t.Context(), db, doors(), table(), name, step("close"))
	require.NoError(t, err)
	require.Equal(t, "CLOSED", rec.State)
	require.Zero(t, db.times)
}

// conflicting fails its first updates as if another transaction was faster.
type conflicting struct {
	records.DB
	times int
}

func (c *conflicting) Update(ctx context.Context, fn func(tx records.Tx) error) error {
	if c.times > 0 {
		c.times--
		return records.ErrConflict
	}
	return c.DB.Update(ctx, fn)
}
