// Package recordstest is the conformance suite of records.DB. Both engines run
// it, on the real SQLite and the real PostgreSQL, so that a service tested on
// one behaves the same on the other.
package recordstest

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/records"
)

// Run runs the whole suite. open returns an empty database and closes it at the
// end of the test.
func Run(t *testing.T, open func(t *testing.T) records.DB) {
	for name, test := range map[string]func(*testing.T, records.DB){
		"InsertGet":          insertGet,
		"Limits":             limits,
		"UpdateByVersion":    updateByVersion,
		"DeleteByVersion":    deleteByVersion,
		"List":               list,
		"AllOrNothing":       allOrNothing,
		"EachItsOwn":         eachItsOwn,
		"PanicAndGoexit":     panicAndGoexit,
		"ContextEnds":        contextEnds,
		"OneWinnerPerName":   oneWinnerPerName,
		"LostUpdates":        lostUpdates,
		"Share":              share,
		"Lock":               lock,
		"Snapshot":           snapshot,
		"TransactionsEnd":    transactionsEnd,
		"Replay":             replay,
		"ReplayConcurrently": replayConcurrently,
		"DuplicateLeaf":      duplicateLeaf,
		"Grow":               grow,
		"GrowFails":          growFails,
		"GrowConcurrently":   growConcurrently,
		"Fences":             fences,
		"Claim":              claim,
		"ClaimRace":          claimRace,
		"Published":          published,
		"Leaves":             leaves,
		"Hashes":             hashes,
		"Events":             events,
		"EventsUnderLoad":    eventsUnderLoad,
		"PruneEvents":        pruneEvents,
		"Close":              closed,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// room is a record of the organisation acme.
func room(name string) records.Record {
	return records.Record{Kind: records.Rooms, Name: "orgs/acme/rooms/" + name, Org: "acme",
		State: "OPEN", Body: []byte(`{"title":"` + name + `"}`)}
}

// insert inserts records, each with its own update.
func insert(t *testing.T, s records.DB, rs ...records.Record) []records.Record {
	t.Helper()
	var out []records.Record
	for _, r := range rs {
		require.NoError(t, s.Update(t.Context(), func(tx records.Tx) error {
			got, err := tx.Insert(t.Context(), r)
			if err == nil {
				out = append(out, got)
			}
			return err
		}))
	}
	return out
}

func get(ctx context.Context, s records.DB, kind records.Kind, name string) (r records.Record, err error) {
	err = s.View(ctx, func(tx records.Tx) (err error) {
		r, err = tx.Get(ctx, kind, name)
		return err
	})
	return r, err
}

// newID is a UUIDv7.
func newID() string { return uuid.Must(uuid.NewV7()).String() }

func leafOf(subject, body string) records.Leaf {
	return records.Leaf{ID: newID(), Org: "acme", Subject: subject, Time: time.Now(),
		Body: []byte(body), Opening: []byte("opening of " + body)}
}

func eventOf(org, subject string) records.Event {
	return records.Event{ID: newID(), Org: org, Type: "room.created", Subject: subject,
		Time: time.Now(), Body: []byte(`{"subject":"` + subject + `"}`)}
}

func keyOf(id, arguments string) records.RequestKey {
	sum := sha256.Sum256([]byte(arguments))
	return records.RequestKey{Org: "acme", Method: "/relay.room.v1.RoomService/CreateRoom", ID: id, Hash: sum[:]}
}

var errMine = errors.New("the function's own error")

// equalJSON compares bodies.
func equalJSON(t *testing.T, want, got []byte) {
	t.Helper()
	require.True(t, json.Valid(got), "body %q is not JSON", got)
	require.JSONEq(t, string(want), string(got))
}
