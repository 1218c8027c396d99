package app

import (
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
)

// TestAStartWaits: a start while PostgreSQL and Redis are away succeeds when they
// are back. A wrong password is told at once.
func TestAStartWaits(t *testing.T) {
	db, live := stacktest.Postgres(t), stacktest.Redis(t)
	builds := func(postgres, redis string, patience time.Duration) error {
		cfg := Default()
		cfg.Data, cfg.Records.Postgres, cfg.Bus.Redis, cfg.Startup = t.TempDir(), Secret(postgres), Secret(redis), patience
		b := newBuilder(cfg, Options{})
		defer func() { require.NoError(t, b.close()) }()
		if _, err := makeRecords(t.Context(), b); err != nil {
			return err
		}
		_, err := makeBus(t.Context(), b)
		return err
	}
	records, pg := stacktest.NewCable(t, db.URL)
	bus, rd := stacktest.NewCable(t, live.URL)
	records.Cut()
	bus.Hang()
	require.ErrorContains(t, builds(pg, live.URL, time.Second), "PostgreSQL does not answer; check records.postgres")
	require.ErrorContains(t, builds(db.URL, rd, time.Second), "redis does not answer; check bus.redis")
	defer time.AfterFunc(2*time.Second, records.Mend).Stop()
	defer time.AfterFunc(4*time.Second, bus.Mend).Stop()
	require.NoError(t, builds(pg, rd, time.Minute))

	began := time.Now()
	u, err := url.Parse(live.URL)
	require.NoError(t, err)
	u.User = url.UserPassword("", "wrong")
	require.ErrorContains(t, builds(db.URL, u.String(), time.Hour), "redis refuses the connection; check bus.redis")
	require.ErrorContains(t, builds(db.URL+"&password=wrong", live.URL, time.Hour), "PostgreSQL refuses the connection; check records.postgres")
	require.Less(t, time.Since(began), time.Minute)
}
