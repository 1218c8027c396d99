package recordstest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/records"
)

func addEvents(t *testing.T, s records.DB, es ...records.Event) {
	t.Helper()
	for _, e := range es {
		require.NoError(t, s.Update(t.Context(), func(tx records.Tx) error { return tx.Event(t.Context(), e) }))
	}
}

func events(t *testing.T, s records.DB) {
	ctx := t.Context()
	a1, b1, a2 := eventOf("a", "1"), eventOf("b", "1"), eventOf("a", "2")
	a1.Time = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.FixedZone("", 7200))
	addEvents(t, s, a1, b1, a2)
	es, err := s.Log().Events(ctx, "a", 0, 10)
	require.NoError(t, err)
	require.Empty(t, es, "not numbered yet")
	for _, want := range []int{2, 1, 0} {
		n, err := s.Log().NumberEvents(ctx, 1, 2)
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
	last, err := s.Log().LastEvents(ctx, []string{"a", "b", "nobody"})
	require.NoError(t, err)
	require.Equal(t, map[string]int64{"a": 2, "b": 1}, last)
	last, err = s.Log().LastEvents(ctx, nil)
	require.NoError(t, err)
	require.Empty(t, last)
	es, err = s.Log().Events(ctx, "a", 0, 10)
	require.NoError(t, err)
	a1.Time, a1.Seq = time.Date(2026, 3, 1, 10, 0, 0, 123456000, time.UTC), 1
	a2.Time, a2.Seq = a2.Time.UTC().Truncate(time.Microsecond), 2
	require.Equal(t, []records.Event{a1, a2}, es)
	es, err = s.Log().Events(ctx, "a", 1, 10)
	require.NoError(t, err)
	require.Equal(t, []records.Event{a2}, es)
	es, err = s.Log().Events(ctx, "a", 0, 1)
	require.NoError(t, err)
	require.Equal(t, []records.Event{a1}, es)
	es, err = s.Log().Events(ctx, "b", 0, 10)
	require.NoError(t, err)
	require.Len(t, es, 1)
	require.EqualValues(t, 1, es[0].Seq, "each organisation counts for itself")
}

// eventsUnderLoad: a reader that asks for the events after the last one it has
// seen misses none, while writers and two sequencers run.
func eventsUnderLoad(t *testing.T, s records.DB) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	const writers, each = 16, 20
	orgs := []string{"a", "b", "c"}
	var writing, numbering sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range each {
				err := s.Update(ctx, func(tx records.Tx) error {
					return tx.Event(ctx, eventOf(orgs[w%3], fmt.Sprintf("w%d/%d", w, i)))
				})
				if err != nil {
					t.Errorf("event: %v", err)
				}
			}
		})
	}
	for range 2 {
		numbering.Go(func() {
			for ctx.Err() == nil {
				if _, err := s.Log().NumberEvents(ctx, 1, 50); err != nil && ctx.Err() == nil {
					t.Errorf("number: %v", err)
					return
				}
			}
		})
	}
	seen := map[string][]records.Event{}
	total, deadline := 0, time.Now().Add(waitFor)
	for total < writers*each && time.Now().Before(deadline) {
		for _, org := range orgs {
			es, err := s.Log().Events(ctx, org, int64(len(seen[org])), 100)
			require.NoError(t, err)
			for _, e := range es {
				require.EqualValues(t, len(seen[org])+1, e.Seq, "gapless, and never behind the follower")
				seen[org] = append(seen[org], e)
				total++
			}
		}
	}
	writing.Wait()
	stop()
	numbering.Wait()
	require.Equal(t, writers*each, total)
	next := map[string]int{}
	for _, org := range orgs {
		for _, e := range seen[org] {
			w, i, _ := strings.Cut(e.Subject, "/")
			require.Equal(t, fmt.Sprint(next[w]), i, "a writer's events are in the order of its commits")
			next[w]++
		}
	}
}

func pruneEvents(t *testing.T, s records.DB) {
	ctx := t.Context()
	old, young := eventOf("acme", "old"), eventOf("acme", "young")
	now := time.Now()
	old.Time = now.Add(-96 * time.Hour)
	waiting := eventOf("acme", "waiting")
	waiting.Time = old.Time
	addEvents(t, s, old)
	require.NoError(t, errOf(s.Log().NumberEvents(ctx, 1, 10)))
	addEvents(t, s, waiting)
	n, err := s.Log().PruneEvents(ctx, now.Add(-72*time.Hour))
	require.NoError(t, err)
	require.EqualValues(t, 1, n, "an event without a number stays")
	addEvents(t, s, young)
	require.NoError(t, errOf(s.Log().NumberEvents(ctx, 1, 10)))
	es, err := s.Log().Events(ctx, "acme", 0, 10)
	require.NoError(t, err)
	require.Len(t, es, 2)
	require.EqualValues(t, 2, es[0].Seq, "the sequence goes on where it was")
	require.Equal(t, "waiting", es[0].Subject)
	require.EqualValues(t, 3, es[1].Seq)
	n, err = s.Log().PruneEvents(ctx, now.Add(time.Hour))
	require.NoError(t, err)
	require.EqualValues(t, 2, n)
	addEvents(t, s, eventOf("acme", "last"))
	require.NoError(t, errOf(s.Log().NumberEvents(ctx, 1, 10)))
	es, err = s.Log().Events(ctx, "acme", 0, 10)
	require.NoError(t, err)
	require.Len(t, es, 1)
	require.EqualValues(t, 4, es[0].Seq, "even when nothing was left")
}
