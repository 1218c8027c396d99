package event_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	eventv1 "github.com/openova-io/bp-relay/gen/relay/event/v1"
	optionsv1 "github.com/openova-io/bp-relay/gen/relay/options/v1"

	"github.com/openova-io/bp-relay/services/bus/inproc"
	"github.com/openova-io/bp-relay/services/event"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/job"
	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/sqlite"
)

// watched collects the events sent to a watcher.
type watched struct {
	grpc.ServerStream
	ctx context.Context
	got []*eventv1.Event
}

func (w *watched) Context() context.Context { return w.ctx }

func (w *watched) Send(m *eventv1.WatchEventsResponse) error {
	w.got = append(w.got, m.GetEvent())
	return nil
}

func reason(err error) string { return apierr.ReasonOf(apierr.FromDomain(err).GRPCStatus().Err()) }

// run runs the service until the test ends.
func run(t testing.TB, s *event.Service) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
}

func newService(t *testing.T) *event.Service {
	t.Helper()
	s, _ := newServiceOn(t)
	return s
}

func newServiceOn(t *testing.T) (*event.Service, records.DB) {
	t.Helper()
	st, err := sqlite.Open(t.Context(), sqlite.Config{Path: t.TempDir() + "/records.db"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, st.Close()) })
	for id, kind := range map[string]string{"1": "room.created", "2": "session.opened"} {
		require.NoError(t, st.Update(t.Context(), func(tx records.Tx) error {
			return tx.Event(t.Context(), records.Event{
				ID: "00000000-0000-7000-8000-00000000000" + id, Org: "acme", Type: kind, Subject: "orgs/acme/x/" + id,
				Time: time.Now(), Body: []byte(`{"reason":"why"}`),
			})
		}))
	}
	_, err = st.Log().NumberEvents(t.Context(), 1, 10)
	require.NoError(t, err)
	auditor := func(who auth.Principal, perm optionsv1.Permission) bool {
		return who.Subject == "auditor" || perm == optionsv1.Permission_PERMISSION_ROOMS_READ
	}
	s, err := event.New(event.Config{Records: st, Bus: inproc.New(), Allows: auditor})
	require.NoError(t, err)
	return s, st
}

// The stream ends with the token. An event that the caller may not read keeps its
// sequence.
func TestWatcherSeesWhatItMayRead(t *testing.T) {
	s := newService(t)
	run(t, s)
	for who, reads := range map[string]int{"backend": 1, "auditor": 2} {
		ctx := auth.With(t.Context(), auth.Principal{Subject: who, Org: "acme", Expires: time.Now().Add(2 * time.Second)})
		w := &watched{ctx: ctx}
		require.Equal(t, "TOKEN_EXPIRED", reason(s.WatchEvents(&eventv1.WatchEventsRequest{Parent: "orgs/acme"}, w)))
		require.Len(t, w.got, 2, who)
		open := 0
		for i, e := range w.got {
			require.Equal(t, int64(i+1), e.GetSequence())
			require.NotEmpty(t, e.GetType())
			if e.GetSubject() != "" {
				require.JSONEq(t, `{"reason":"why"}`, e.GetDetailJson())
				open++
			}
		}
		require.Equal(t, reads, open, who)
	}
}

func TestWatchersAreBounded(t *testing.T) {
	s := newService(t)
	ctx, cancel := context.WithCancel(auth.With(t.Context(), auth.Principal{Subject: "greedy", Org: "acme"}))
	results := make(chan error, 101)
	for range cap(results) {
		go func() { results <- s.WatchEvents(&eventv1.WatchEventsRequest{Parent: "orgs/acme"}, &watched{ctx: ctx}) }()
	}
	require.Equal(t, "RATE_LIMITED", reason(<-results), "one too many")
	cancel()
	for range cap(results) - 1 {
		require.ErrorIs(t, <-results, context.Canceled)
	}
}

// Events older than what is promised are deleted by a job that recurs.
func TestOldEventsAreDeleted(t *testing.T) {
	s, st := newServiceOn(t)
	require.NoError(t, st.Update(t.Context(), func(tx records.Tx) error {
		return tx.Event(t.Context(), records.Event{
			ID: "00000000-0000-7000-8000-000000000003", Org: "acme", Type: "room.created", Subject: "orgs/acme/x/3",
			Time: time.Now().Add(-81 * time.Hour), Body: []byte(`{}`),
		})
	}))
	_, err := st.Log().NumberEvents(t.Context(), 1, 10)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var j job.Job
	require.Eventually(t, func() bool {
		err := st.View(t.Context(), func(tx records.Tx) (err error) {
			j, err = job.Get(t.Context(), tx, "jobs/prune-events")
			return err
		})
		return err == nil && j.Progress.Done == 1 && j.State == job.Waiting
	}, 10*time.Second, 10*time.Millisecond)
	require.WithinDuration(t, time.Now().Add(time.Hour), j.Due, time.Minute)
	cancel()
	require.NoError(t, <-done)
	left, err := st.Log().Events(t.Context(), "acme", 0, 10)
	require.NoError(t, err)
	require.Len(t, left, 2)
}
