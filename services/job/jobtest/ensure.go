package jobtest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/job"
	"github.com/openova-io/bp-relay/services/records"
)

func insertAndEnsure(t *testing.T, w world) {
	ctx := t.Context()
	w.add(t, "j", nil)
	err := w.db.Update(ctx, func(tx records.Tx) error { return job.Insert(ctx, tx, job.Job{Name: "j", Org: "acme", Kind: "other"}) })
	require.ErrorIs(t, err, records.ErrExists)
	require.NoError(t, job.Ensure(ctx, w.db, job.Job{Name: "j", Org: "acme", Kind: "other"}))
	require.Equal(t, "work", w.get(t, "j").Kind, "Ensure leaves the first one")
	for _, j := range []job.Job{{Org: "o", Kind: "k"}, {Name: "n", Kind: "k"}, {Name: "n", Org: "o"}} {
		require.ErrorIs(t, job.Ensure(ctx, w.db, j), job.ErrInvalid)
	}
	require.ErrorIs(t, w.db.View(ctx, func(tx records.Tx) error { _, err := job.Get(ctx, tx, "none"); return err }), records.ErrNotFound)
}

// A recurring job follows what its owner asks for, and nothing else about it
// changes.
func ensureRevises(t *testing.T, w world) {
	ctx := t.Context()
	want := job.Job{Name: "j", Org: "acme", Kind: "work", Every: 24 * time.Hour, Input: []byte(`{"a": "<1>"}`),
		Due: time.Now().Add(24 * time.Hour)}
	require.NoError(t, job.Ensure(ctx, w.db, want))
	first := w.get(t, "j")
	require.NoError(t, job.Ensure(ctx, w.db, want))
	require.Equal(t, first, w.get(t, "j"), "the same one is not written again")

	want.Every = time.Hour
	require.NoError(t, job.Ensure(ctx, w.db, want))
	j := w.get(t, "j")
	require.Equal(t, time.Hour, j.Every)
	require.WithinDuration(t, time.Now().Add(time.Hour), j.Due, time.Minute)
	require.Equal(t, first.Input, j.Input)
	want.Input = []byte(`{"a": "2"}`)
	require.NoError(t, job.Ensure(ctx, w.db, want))
	require.JSONEq(t, `{"a": "2"}`, string(w.get(t, "j").Input))

	want.Kind, want.Every = "other", time.Minute
	require.NoError(t, job.Ensure(ctx, w.db, want))
	want.Kind, want.Every = "work", 0
	require.NoError(t, job.Ensure(ctx, w.db, want))
	require.Equal(t, time.Hour, w.get(t, "j").Every, "another kind, or one that does not recur, changes nothing")

	w.add(t, "once", nil)
	require.NoError(t, job.Ensure(ctx, w.db, job.Job{Name: "once", Org: "acme", Kind: "work", Every: time.Hour}))
	require.Zero(t, w.get(t, "once").Every, "a job that runs once stays so")
}

// A process whose clock was years ahead wrote when the jobs are due next. They
// run when they would have with the right clock, at the latest.
func clockWasAhead(t *testing.T, w world) {
	ctx := t.Context()
	far := time.Now().AddDate(10, 0, 0)
	require.NoError(t, job.Ensure(ctx, w.db, job.Job{Name: "recurring", Org: "acme", Kind: "work", Every: time.Hour, Due: far}))
	require.NoError(t, job.Ensure(ctx, w.db, job.Job{Name: "once", Org: "acme", Kind: "work", Due: far}))
	ran := make(chan string, 10)
	w.replica(t, map[string]job.Work{"work": func(_ context.Context, r *job.Run) error {
		ran <- r.Job().Name
		return nil
	}}, nil)
	select {
	case name := <-ran:
		require.Equal(t, "recurring", name, "a job for one time waits as its owner asked")
	case <-time.After(wait):
		t.Fatal("the job waits until the clock has caught up")
	}
	require.Eventually(t, func() bool { return w.get(t, "recurring").State == job.Waiting }, wait, poll)
	require.WithinDuration(t, time.Now().Add(time.Hour), w.get(t, "recurring").Due, time.Minute)
}
