package recordstest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/records"
)

var kinds = []records.Kind{records.Rooms, records.Participants, records.Recordings, records.Captures,
	records.Segments, records.Connections, records.Sessions, records.Gateways, records.Jobs, records.Alarms, records.Replicas, records.Revocations}

func insertGet(t *testing.T, s records.DB) {
	ctx := t.Context()
	for _, kind := range kinds {
		want := records.Record{Kind: kind, Name: "orgs/acme/x/1", Org: "acme", Parent: "orgs/acme/y/2",
			State: "ACTIVE", Body: []byte(`{"n": 1.50, "text": "žluť \u0000 \ud83d\ude00", "a":[]}`)}
		before := time.Now().Add(-time.Millisecond)
		in := insert(t, s, want)[0]
		got, err := get(ctx, s, kind, want.Name)
		require.NoError(t, err)
		require.Equal(t, in, got, "Insert returns what Get returns")
		require.EqualValues(t, 1, got.Version)
		require.Equal(t, got.CreateTime, got.UpdateTime)
		require.Equal(t, time.UTC, got.CreateTime.Location())
		require.Equal(t, got.CreateTime, got.CreateTime.Truncate(time.Microsecond))
		require.WithinRange(t, got.CreateTime, before, time.Now().Add(time.Millisecond))
		require.Equal(t, string(want.Body), string(got.Body), "the document's bytes are kept")
		got.Version, got.CreateTime, got.UpdateTime = 0, time.Time{}, time.Time{}
		require.Equal(t, want, got)

		err = s.Update(ctx, func(tx records.Tx) error { _, err := tx.Insert(ctx, want); return err })
		require.ErrorIs(t, err, records.ErrExists)
	}
	_, err := get(ctx, s, records.Rooms, "orgs/acme/rooms/other")
	require.ErrorIs(t, err, records.ErrNotFound)
	bare := insert(t, s, records.Record{Kind: records.Rooms, Name: "bare", Org: "acme"})[0]
	equalJSON(t, []byte(`{}`), bare.Body)
}

func limits(t *testing.T, s records.DB) {
	ctx := t.Context()
	body := func(n int) []byte { return []byte(`"` + strings.Repeat("x", n-2) + `"`) }
	ok := room("big")
	ok.Body = body(1 << 20)
	insert(t, s, ok)
	for what, change := range map[string]func(*records.Record){
		"unknown kind":    func(r *records.Record) { r.Kind = "rooms; DROP TABLE rooms" },
		"no name":         func(r *records.Record) { r.Name = "" },
		"no organisation": func(r *records.Record) { r.Org = "" },
		"NUL":             func(r *records.Record) { r.Name = "a\x00b" },
		"not UTF-8":       func(r *records.Record) { r.Name = "a\xffb" },
		"long name":       func(r *records.Record) { r.Name = strings.Repeat("n", 1025) },
		"body over 1 MiB": func(r *records.Record) { r.Body = body(1<<20 + 1) },
		"body not JSON":   func(r *records.Record) { r.Body = []byte("{") },
		"body not UTF-8":  func(r *records.Record) { r.Body = []byte("\"\xff\"") },
	} {
		r := room("bad")
		change(&r)
		err := s.Update(ctx, func(tx records.Tx) error { _, err := tx.Insert(ctx, r); return err })
		require.ErrorIs(t, err, records.ErrInvalid, what)
	}
	for n, want := range map[int]error{64 << 10: nil, 64<<10 + 1: records.ErrInvalid, 0: records.ErrInvalid} {
		l := leafOf("s", "")
		l.Body = bytes.Repeat([]byte{0xff}, n)
		err := s.Update(ctx, func(tx records.Tx) error { return tx.Leaf(ctx, l) })
		require.ErrorIs(t, err, want, "leaf of %d bytes", n)
	}
	e := eventOf("acme", "s")
	e.Body = []byte("no")
	err := s.Update(ctx, func(tx records.Tx) error { return tx.Event(ctx, e) })
	require.ErrorIs(t, err, records.ErrInvalid)
	err = s.View(ctx, func(tx records.Tx) error { _, err := tx.List(ctx, records.Query{Kind: "x"}); return err })
	require.ErrorIs(t, err, records.ErrInvalid)
	_, err = get(ctx, s, "x", "y")
	require.ErrorIs(t, err, records.ErrInvalid)
	_, err = get(ctx, s, records.Rooms, "a\x00b")
	require.ErrorIs(t, err, records.ErrNotFound, "what cannot be stored is not there")
}

func updateByVersion(t *testing.T, s records.DB) {
	ctx := t.Context()
	first := insert(t, s, room("r"))[0]
	change := first
	change.State, change.Parent, change.Body, change.Org = "CLOSED", "p", []byte(`{"v":2}`), "intruder"
	var second records.Record
	require.NoError(t, s.Update(ctx, func(tx records.Tx) (err error) {
		second, err = tx.Update(ctx, change)
		return err
	}))
	got, err := get(ctx, s, records.Rooms, first.Name)
	require.NoError(t, err)
	require.Equal(t, second, got)
	require.EqualValues(t, 2, got.Version)
	require.Equal(t, "acme", got.Org, "a record does not change its organisation")
	require.Equal(t, "CLOSED", got.State)
	require.Equal(t, "p", got.Parent)
	require.Equal(t, `{"v":2}`, string(got.Body))
	require.Equal(t, first.CreateTime, got.CreateTime)
	require.False(t, got.UpdateTime.Before(first.UpdateTime))

	err = s.Update(ctx, func(tx records.Tx) error { _, err := tx.Update(ctx, change); return err })
	require.ErrorIs(t, err, records.ErrConflict, "version 1 is gone")
	change.Name = "orgs/acme/rooms/other"
	err = s.Update(ctx, func(tx records.Tx) error { _, err := tx.Update(ctx, change); return err })
	require.ErrorIs(t, err, records.ErrNotFound)
	again, err := get(ctx, s, records.Rooms, first.Name)
	require.NoError(t, err)
	require.Equal(t, got, again, "a refused update changes nothing")
}

func deleteByVersion(t *testing.T, s records.DB) {
	ctx := t.Context()
	rs := insert(t, s, room("a"), room("b"))
	del := func(name string, version int64) error {
		return s.Update(ctx, func(tx records.Tx) error { return tx.Delete(ctx, records.Rooms, name, version) })
	}
	require.ErrorIs(t, del(rs[0].Name, 2), records.ErrConflict)
	require.NoError(t, del(rs[0].Name, 1))
	require.ErrorIs(t, del(rs[0].Name, 1), records.ErrNotFound)
	require.NoError(t, del(rs[1].Name, 0), "0 is any version")
	require.ErrorIs(t, del(rs[1].Name, 0), records.ErrNotFound)
	_, err := get(ctx, s, records.Rooms, rs[0].Name)
	require.ErrorIs(t, err, records.ErrNotFound)
	require.EqualValues(t, 1, insert(t, s, room("a"))[0].Version, "a name can be taken again")
}

func list(t *testing.T, s records.DB) {
	ctx := t.Context()
	// Bytewise order: capitals before small letters, whatever the locale.
	names := []string{"B", "Z", "_", "a", "a-b", "a/b", "ab", "b", "é", "日"}
	require.True(t, slices.IsSorted(names))
	for i, n := range names {
		insert(t, s, records.Record{Kind: records.Sessions, Name: n, Org: []string{"acme", "other"}[i%2],
			Parent: []string{"p", "q", ""}[i%3], State: []string{"A", "B", "C"}[i%3]})
	}
	query := func(q records.Query) (got []string) {
		t.Helper()
		q.Kind = records.Sessions
		require.NoError(t, s.View(ctx, func(tx records.Tx) error {
			rs, err := tx.List(ctx, q)
			got = []string{}
			for _, r := range rs {
				got = append(got, r.Name)
			}
			return err
		}))
		return got
	}
	pick := func(keep func(i int) bool) (want []string) {
		for i, n := range names {
			if keep(i) {
				want = append(want, n)
			}
		}
		return want
	}
	require.Equal(t, names, query(records.Query{}))
	require.Equal(t, names[:3], query(records.Query{Limit: 3}))
	require.Equal(t, names[4:], query(records.Query{After: "a"}))
	require.Equal(t, names[4:6], query(records.Query{After: "a", Limit: 2}))
	require.Equal(t, pick(func(i int) bool { return i%2 == 0 }), query(records.Query{Org: "acme"}))
	require.Equal(t, pick(func(i int) bool { return i%3 == 1 }), query(records.Query{Parent: "q"}))
	require.Equal(t, pick(func(i int) bool { return i%3 != 1 }), query(records.Query{States: []string{"A", "C"}}))
	require.Equal(t, pick(func(i int) bool { return i%2 == 1 && i%3 == 2 && i > 4 }),
		query(records.Query{Org: "other", States: []string{"C"}, After: names[4], Limit: 1000}))
	require.Empty(t, query(records.Query{Org: "' OR 1=1 --"}))

	require.NoError(t, s.Update(ctx, func(tx records.Tx) error {
		for i := range 1001 {
			r := records.Record{Kind: records.Segments, Name: fmt.Sprintf("s%04d", i), Org: "acme"}
			if _, err := tx.Insert(ctx, r); err != nil {
				return err
			}
		}
		for limit, want := range map[int]int{0: 100, -1: 100, 1: 1, 1000: 1000, 5000: 1000} {
			rs, err := tx.List(ctx, records.Query{Kind: records.Segments, Limit: limit})
			require.NoError(t, err)
			require.Len(t, rs, want, "limit %d", limit)
		}
		return nil
	}))
}
