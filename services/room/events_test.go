package room_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	optionsv1 "github.com/openova-io/bp-relay/gen/relay/options/v1"
	roomv1 "github.com/openova-io/bp-relay/gen/relay/room/v1"

	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/room"
	"github.com/openova-io/bp-relay/services/store"
	"github.com/openova-io/bp-relay/services/store/sqlite"
)

// watched collects what a watcher is sent.
type watched struct {
	grpc.ServerStream
	ctx context.Context
	got []*roomv1.Event
}

func (w *watched) Context() context.Context { return w.ctx }

func (w *watched) Send(m *roomv1.WatchEventsResponse) error {
	w.got = append(w.got, m.GetEvent())
	return nil
}

func newWatch(t *testing.T) *room.Service {
	t.Helper()
	st, err := sqlite.Open(t.Context(), sqlite.Config{Path: t.TempDir() + "/records.db"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, st.Close()) })
	for id, kind := range map[string]string{"1": "room.created", "2": "session.opened"} {
		require.NoError(t, st.Update(t.Context(), func(tx store.Tx) error {
			return tx.Event(t.Context(), store.Event{
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
	s, err := room.New(room.Config{Store: st, May: auditor, LiveKit: room.LiveKit{URL: "http://127.0.0.1:1", Key: "k", Secret: "0123456789012345678901234567890123"}})
	require.NoError(t, err)
	return s
}

// The stream ends with the token; what a caller may not read keeps its place.
func TestWatcherSeesWhatItMayRead(t *testing.T) {
	s := newWatch(t)
	for who, reads := range map[string]int{"backend": 1, "auditor": 2} {
		ctx := auth.With(t.Context(), auth.Principal{Subject: who, Org: "acme", Expires: time.Now().Add(2 * time.Second)})
		w := &watched{ctx: ctx}
		require.Equal(t, "TOKEN_EXPIRED", reason(s.WatchEvents(&roomv1.WatchEventsRequest{Parent: "orgs/acme"}, w)))
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
	s := newWatch(t)
	ctx, cancel := context.WithCancel(auth.With(t.Context(), auth.Principal{Subject: "greedy", Org: "acme"}))
	results := make(chan error, 101)
	for range cap(results) {
		go func() { results <- s.WatchEvents(&roomv1.WatchEventsRequest{Parent: "orgs/acme"}, &watched{ctx: ctx}) }()
	}
	require.Equal(t, "RATE_LIMITED", reason(<-results), "one too many")
	cancel()
	for range cap(results) - 1 {
		require.ErrorIs(t, <-results, context.Canceled)
	}
}
