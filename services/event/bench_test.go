package event_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/postgres"
)

func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkWatchers has 1,000 watchers of ten organisations, which are idle, or get
// 20 events a second each. It measures transactions that read events per second, the
// CPU of this process in percent of a core, and how many events were delivered.
//
//	go test -run '^$' -bench Watchers -benchtime 1x ./event
func BenchmarkWatchers(b *testing.B) {
	for what, open := range map[string]func(testing.TB) records.DB{"SQLite": onSQLite, "PostgreSQL": onPostgres} {
		for _, rate := range []int{0, 20} {
			b.Run(fmt.Sprintf("%s/events=%d", what, rate), func(b *testing.B) {
				h := newHall(b, open(b))
				of := uuid.NewString()[:8] // the database is shared
				var all []*seat
				for i := range 1000 {
					all = append(all, h.watch(fmt.Sprintf("%s-%d", of, i%10), 0, nil))
				}
				time.Sleep(2 * time.Second)
				for b.Loop() {
					asked, used, begin := h.db.last.Load()+h.db.events.Load(), cpu(b), time.Now()
					for time.Since(begin) < 10*time.Second {
						next := time.Now().Add(100 * time.Millisecond)
						for i := range 10 {
							if rate > 0 {
								h.write(fmt.Sprintf("%s-%d", of, i), rate/10, true)
							}
						}
						time.Sleep(time.Until(next))
					}
					took := time.Since(begin).Seconds()
					got := 0
					for _, s := range all {
						got += s.count()
					}
					b.ReportMetric(float64(h.db.last.Load()+h.db.events.Load()-asked)/took, "tx/s")
					b.ReportMetric((cpu(b)-used).Seconds()/took*100, "%cpu")
					b.ReportMetric(float64(got)/took, "events/s")
				}
			})
		}
	}
}

func onPostgres(t testing.TB) records.DB {
	t.Helper()
	db, err := postgres.Open(t.Context(), postgres.Config{URL: stacktest.Postgres(t).URL})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}
