package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"

	"github.com/openova-io/bp-relay/services/format/leaf"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/sqlite"
)

// away is records that take nothing while err is set.
type away struct {
	records.DB
	err error
}

func (a *away) Update(ctx context.Context, fn func(records.Tx) error) error {
	if a.err != nil {
		return a.err
	}
	return a.DB.Update(ctx, fn)
}

// 2,000 refused calls wrote 2,000 permanent leaves. They are one, which says how
// many, when, and what.
func TestDenialsAreOneLeaf(t *testing.T) {
	file, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "records.db"), Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	defer func() { require.NoError(t, file.Close()) }()
	db := &away{DB: file}
	d := newDenials(db, slog.New(slog.DiscardHandler))
	deny := func(org, subject, method string) {
		d.add(t.Context(), auth.Principal{Org: org, Subject: subject}, method,
			apierr.New(codes.PermissionDenied, errorsv1.Reason_REASON_PERMISSION_MISSING, "no"))
	}
	leaves := func(org string) (out []map[string]any) {
		found, err := db.Log().LeavesOf(t.Context(), org, "orgs/"+org, -1, 0)
		require.NoError(t, err)
		for _, l := range found {
			var o leaf.Opening
			require.NoError(t, json.Unmarshal(l.Opening, &o))
			var detail map[string]any
			require.NoError(t, json.Unmarshal(o.Detail, &detail))
			detail["actor"] = o.Actor
			out = append(out, detail)
		}
		return out
	}
	for range 2000 {
		deny("acme", "ann", "/relay.room.v1.RoomService/CreateRoom")
	}
	deny("acme", "ann", "/relay.room.v1.RoomService/GetRoom")
	require.Empty(t, leaves("acme"), "a refused call writes nothing by itself")
	db.err = errors.New("away")
	d.enter(t.Context())
	deny("acme", "ann", "/relay.room.v1.RoomService/GetRoom") // while the records are away
	db.err = nil
	d.enter(t.Context())
	d.enter(t.Context())
	got := leaves("acme")
	require.Len(t, got, 1)
	require.Equal(t, "ann", got[0]["actor"])
	require.EqualValues(t, 2002, got[0]["count"])
	require.Equal(t, []any{"/relay.room.v1.RoomService/CreateRoom", "/relay.room.v1.RoomService/GetRoom"}, got[0]["methods"])
	require.Equal(t, []any{"PERMISSION_MISSING"}, got[0]["reasons"])
	require.Less(t, got[0]["first"], got[0]["last"])

	for i := range 3 * maxDenied { // who has many subjects does not get many leaves for ever
		deny("other", fmt.Sprint(i), "/relay.room.v1.RoomService/GetRoom")
	}
	require.Len(t, d.count, maxDenied+1)
	require.Equal(t, 2*maxDenied, d.count[deniedCaller{org: "other"}].count)
}

// A process that stops enters what it has counted.
func TestDenialsAtTheEnd(t *testing.T) {
	db, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "records.db"), Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	d := newDenials(db, slog.New(slog.DiscardHandler))
	d.add(t.Context(), auth.Principal{Org: "acme", Subject: "ann"}, "/m", apierr.New(codes.PermissionDenied, errorsv1.Reason_REASON_OTHER_ORGANISATION, "no"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, d.run(ctx))
	found, err := db.Log().LeavesOf(t.Context(), "acme", "orgs/acme", -1, 0)
	require.NoError(t, err)
	require.Len(t, found, 1)
}
