package recordstest

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/records"
)

// share: writers of parts depend on their room being open, and the one that
// closes it depends on its parts. Every part whose update succeeded is counted
// when the room is closed, and no part is added afterwards.
func share(t *testing.T, s records.DB) {
	ctx := t.Context()
	for round := range 20 {
		r := insert(t, s, room("shared"+strconv.Itoa(round)))[0]
		var wg sync.WaitGroup
		var added atomic.Int64
		begun := make(chan struct{}, 64)
		for i := range 16 {
			wg.Go(func() {
				for j := range 4 {
					err := s.Update(ctx, func(tx records.Tx) error {
						room, err := tx.Share(ctx, records.Rooms, r.Name)
						if err != nil {
							return err
						}
						if room.State != "OPEN" {
							return errMine
						}
						_, err = tx.Insert(ctx, records.Record{Kind: records.Participants, Name: fmt.Sprintf("%s/%02d-%d", r.Name, i, j), Org: "acme", Parent: r.Name})
						return err
					})
					begun <- struct{}{}
					if err == nil {
						added.Add(1)
					} else if !errors.Is(err, errMine) {
						t.Errorf("add a part: %v", err)
					}
				}
			})
		}
		for range 1 + round {
			<-begun
		}
		counted := int64(-1)
		require.NoError(t, s.Update(ctx, func(tx records.Tx) error {
			room, err := tx.Lock(ctx, records.Rooms, r.Name)
			if err != nil {
				return err
			}
			parts, err := tx.List(ctx, records.Query{Kind: records.Participants, Parent: r.Name, Limit: 1000})
			if err != nil {
				return err
			}
			counted = int64(len(parts))
			room.State = "CLOSED"
			_, err = tx.Update(ctx, room)
			return err
		}))
		wg.Wait()
		require.Equal(t, added.Load(), counted, "round %d: parts that were added, and those that were there when the room was closed", round)
	}
}

// lock: of those that lock one record, each sees what the one before it wrote.
func lock(t *testing.T, s records.DB) {
	ctx := t.Context()
	r := insert(t, s, room("locked"))[0]
	var wg sync.WaitGroup
	var first atomic.Int64
	for i := range 24 {
		wg.Go(func() {
			won := false
			err := s.Update(ctx, func(tx records.Tx) error {
				won = false
				if _, err := tx.Lock(ctx, records.Rooms, r.Name); err != nil {
					return err
				}
				have, err := tx.List(ctx, records.Query{Kind: records.Participants, Parent: r.Name})
				if err != nil || len(have) > 0 {
					return err
				}
				won = true
				_, err = tx.Insert(ctx, records.Record{Kind: records.Participants, Name: fmt.Sprint(r.Name, "/", i), Org: "acme", Parent: r.Name})
				return err
			})
			switch {
			case err != nil:
				t.Errorf("update %d: %v", i, err)
			case won:
				first.Add(1)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, first.Load())
	same, err := get(ctx, s, records.Rooms, r.Name)
	require.NoError(t, err)
	require.Equal(t, r, same, "a lock changes nothing")

	for name, hold := range map[string]func(tx records.Tx) error{
		"Share": func(tx records.Tx) error { _, err := tx.Share(ctx, records.Rooms, "orgs/acme/rooms/none"); return err },
		"Lock":  func(tx records.Tx) error { _, err := tx.Lock(ctx, records.Rooms, "orgs/acme/rooms/none"); return err },
	} {
		require.ErrorIs(t, s.Update(ctx, hold), records.ErrNotFound, name)
		require.Error(t, s.View(ctx, hold), "%s in a View", name)
	}
}
