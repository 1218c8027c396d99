package resource_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/records"
)

// counting counts the transactions of a sweep and fails the one numbered fail.
type counting struct {
	records.DB
	views, fail int
}

var errView = errors.New("records do not answer")

func (c *counting) View(ctx context.Context, fn func(tx records.Tx) error) error {
	if c.views++; c.views == c.fail {
		return errView
	}
	return c.DB.View(ctx, fn)
}

func TestEach(t *testing.T) {
	db, ctx := open(t), t.Context()
	var all []string
	require.NoError(t, db.Update(ctx, func(tx records.Tx) error {
		all = nil
		for _, id := range []string{"a", "b", "c", "d", "e"} {
			rec, err := tx.Insert(ctx, records.Record{Kind: records.Rooms, Name: rooms().Name("acme", id), Org: "acme", State: "OPEN", Body: []byte(`{}`)})
			if err != nil {
				return err
			}
			all = append(all, rec.Name)
		}
		_, err := tx.Insert(ctx, records.Record{Kind: records.Rooms, Name: rooms().Name("acme", "f"), Org: "acme", State: "ENDED", Body: []byte(`{}`)})
		return err
	}))
	for _, c := range []struct {
		name  string
		q     records.Query
		fail  int // the transaction that fails; 0: none
		stop  int // how many records the loop takes; 0: all
		want  []string
		views int
	}{
		{name: "pages", q: records.Query{Limit: 2}, want: all, views: 3},
		{name: "one page", want: all, views: 1},
		{name: "a full last page", q: records.Query{Limit: 5}, want: all, views: 2},
		{name: "after", q: records.Query{After: all[1], Limit: 2}, want: all[2:], views: 2},
		{name: "nothing", q: records.Query{Org: "other"}, views: 1},
		{name: "left early", q: records.Query{Limit: 2}, stop: 2, want: all[:2], views: 1},
		{name: "an error at once", fail: 1, views: 1},
		{name: "an error later", q: records.Query{Limit: 2}, fail: 2, want: all[:2], views: 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.q.Kind, c.q.States = records.Rooms, []string{"OPEN"}
			counted := &counting{DB: db, fail: c.fail}
			seq := resource.Each(ctx, counted, c.q)
			var got []string
			var failed error
			for rec, err := range seq {
				require.NoError(t, failed, "an error ends the loop")
				if failed = err; err != nil {
					require.Zero(t, rec)
					continue
				}
				if got = append(got, rec.Name); len(got) == c.stop {
					break
				}
			}
			require.Equal(t, c.want, got)
			require.Equal(t, c.views, counted.views)
			if c.fail > 0 {
				require.ErrorIs(t, failed, errView)
				return
			}
			require.NoError(t, failed)
		})
	}

	// The body may change records, and the sequence may be used again.
	seq := resource.Each(ctx, db, records.Query{Kind: records.Rooms, States: []string{"OPEN"}, Limit: 2})
	for rec, err := range seq {
		require.NoError(t, err)
		require.NoError(t, db.Update(ctx, func(tx records.Tx) error {
			rec.State = "ENDED"
			_, err := tx.Update(ctx, rec)
			return err
		}))
	}
	for rec, err := range seq {
		t.Fatalf("every room has ended, but Each found %s (%v)", rec.Name, err)
	}
}
