package connection_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	connectionv1 "github.com/openova-io/bp-relay/gen/relay/connection/v1"

	"github.com/openova-io/bp-relay/services/bus/redis"
	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/connection"
	"github.com/openova-io/bp-relay/services/records/postgres"
)

// onPostgres is a rig whose records and bus two processes can share.
func onPostgres(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	db, err := postgres.Open(t.Context(), postgres.Config{URL: shared.Postgres(t).URL, Logger: r.logger()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	b, err := redis.New(redis.Config{URL: shared.Redis(t).URL, Prefix: t.Name() + ":", Logger: r.logger()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	r.records, r.bus = db, b
	return r
}

// Two replicas are asked for sessions at the same moment, in two rounds: one
// person's, and several people's. As many are open as the limits allow.
func TestLimitsOverReplicas(t *testing.T) {
	r := onPostgres(t)
	limit := func(c *connection.Config, _ *capture.Config) { c.Limits = connection.Limits{Person: 7, Org: 11} }
	p := r.start(limit)
	q := r.start(limit, func(_ *connection.Config, cc *capture.Config) { cc.Dir = filepath.Join(r.dir, "spool2") })
	conns := []string{r.define(p, "one"), r.define(p, "two")}
	open := func(n int, who func(i int) string) (opened []string) {
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				out, err := []*process{p, q}[i%2].OpenSession(as(t, who(i)), &connectionv1.OpenSessionRequest{Connection: conns[i/2%2]})
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					if reasonOf(err) != "TOO_MANY_SESSIONS" {
						t.Errorf("open: %v", err)
					}
					return
				}
				opened = append(opened, out.GetSession().GetName())
			})
		}
		wg.Wait()
		return opened
	}
	ann := open(40, func(int) string { return "ann" })
	require.Len(t, ann, 7)
	others := open(40, func(i int) string { return fmt.Sprintf("ben%d", i%8) })
	require.Len(t, others, 4)

	// What ended is free again, once and on each replica.
	for _, name := range append(ann[:2:2], others[:3]...) {
		_, err := p.TerminateSession(as(t, "boss"), &connectionv1.TerminateSessionRequest{Name: name})
		require.NoError(t, err)
	}
	require.Len(t, open(20, func(int) string { return "ann" }), 2)
	require.Len(t, open(20, func(i int) string { return fmt.Sprintf("cid%d", i%4) }), 3)

	list, err := q.ListSessions(as(t, "ann"), &connectionv1.ListSessionsRequest{Parent: "orgs/acme", PageSize: 100})
	require.NoError(t, err)
	require.Len(t, list.GetSessions(), 16, "the counts are no sessions")
	for _, s := range list.GetSessions() {
		require.True(t, strings.HasPrefix(s.GetName(), "orgs/acme/sessions/"), s.GetName())
	}
}
