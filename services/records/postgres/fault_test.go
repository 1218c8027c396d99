package postgres_test

import (
	"context"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/postgres"
	"github.com/openova-io/bp-relay/services/records/recordstest"
)

func TestWindow(t *testing.T) {
	clock := new(recordstest.Clock)
	url := database(t, shared.Postgres(t))
	s, err := postgres.Open(t.Context(), postgres.Config{URL: url, Now: clock.Now})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	raw, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { require.NoError(t, raw.Close(t.Context())) }()
	recordstest.Window(t, s, clock, func() error { return postgres.Clean(t.Context(), s) }, func() (n int) {
		require.NoError(t, raw.QueryRow(t.Context(), "SELECT count(*) FROM requests").Scan(&n))
		return n
	})
}

// TestCommitFails: the connection breaks at COMMIT, before the server has
// seen it and after.
func TestCommitFails(t *testing.T) {
	for _, what := range []string{lost, happened} {
		t.Run(what, func(t *testing.T) {
			direct := database(t, shared.Postgres(t))
			u, err := url.Parse(direct)
			require.NoError(t, err)
			p := newProxy(t, u.Host)
			u.Host = p.l.Addr().String()
			s := open(t, u.String())
			recordstest.Outcome(t, s, what == happened, func() { p.arm(what) })
			require.Equal(t, 2, p.fired)

			write := func(tx records.Tx) error {
				return tx.Event(t.Context(), records.Event{ID: "e", Org: "acme", Type: "t", Subject: "s", Body: []byte("{}")})
			}
			p.arm(what)
			require.ErrorIs(t, s.Update(t.Context(), write), records.ErrUnavailable)
			p.cut()
			require.ErrorIs(t, s.Update(t.Context(), write), records.ErrUnavailable)
			require.ErrorIs(t, s.Ping(t.Context()), records.ErrUnavailable)
			_, err = s.Log().Checkpoint(t.Context())
			require.ErrorIs(t, err, records.ErrUnavailable)
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			require.ErrorIs(t, s.Update(ended, write), context.Canceled)
		})
	}
}

// TestBrokenRead: the server goes away in the middle of a snapshot.
func TestBrokenRead(t *testing.T) {
	u, err := url.Parse(database(t, shared.Postgres(t)))
	require.NoError(t, err)
	p := newProxy(t, u.Host)
	u.Host = p.l.Addr().String()
	s := open(t, u.String())
	err = s.View(t.Context(), func(tx records.Tx) error {
		_, err := tx.Get(t.Context(), records.Rooms, "none")
		require.ErrorIs(t, err, records.ErrNotFound)
		p.cut()
		_, err = tx.Get(t.Context(), records.Rooms, "none")
		return err
	})
	require.ErrorIs(t, err, records.ErrUnavailable)
}

// load runs recordstest.Load in the background; stop stops it and returns what
// was acknowledged and how many updates failed.
func load(t *testing.T, s *postgres.DB, prefix string) (count *atomic.Int64, stop func() ([]string, int)) {
	ctx, cancel := context.WithCancel(t.Context())
	var acked []string
	var wg sync.WaitGroup
	failed := 0
	count = new(atomic.Int64)
	wg.Go(func() {
		recordstest.Load(ctx, s, prefix, 32, 0, func(name string) {
			acked = append(acked, name)
			count.Add(1)
		}, func(error) {
			failed++
			time.Sleep(time.Millisecond) // do not spin while the server is down
		})
	})
	return count, func() ([]string, int) {
		cancel()
		wg.Wait()
		return acked, failed
	}
}

func more(t *testing.T, count *atomic.Int64, n int64) {
	t.Helper()
	want := count.Load() + n
	require.Eventually(t, func() bool { return count.Load() >= want }, 30*time.Second, 5*time.Millisecond,
		"updates go on")
}

// TestTerminated: backends are terminated under load; the pool opens new ones.
func TestTerminated(t *testing.T) {
	pg := shared.Postgres(t)
	s := open(t, database(t, pg))
	count, stop := load(t, s, "terminated")
	for range 12 {
		more(t, count, 150)
		sql(t, pg, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'bp-relay'")
	}
	more(t, count, 150)
	acked, failed := stop()
	t.Logf("%d updates failed", failed)
	recordstest.CheckAcked(t, s, acked)
}

// TestCrashed: all of the server's processes are killed under load, and the
// server restarts.
func TestCrashed(t *testing.T) {
	pg := stacktest.Postgres(t)
	s := open(t, database(t, pg))
	count, stop := load(t, s, "crashed")
	for range 2 {
		more(t, count, 400)
		require.NoError(t, pg.Kill())
		require.NoError(t, pg.Restart(t.Context()))
	}
	more(t, count, 400)
	acked, failed := stop()
	t.Logf("%d updates failed", failed)
	require.Positive(t, failed)
	recordstest.CheckAcked(t, s, acked)
}

// TestUnreachable: an address without a listener fails at once.
func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	began := time.Now()
	_, err = postgres.Open(t.Context(), postgres.Config{URL: "postgres://relay:hunter2@" + l.Addr().String() + "/x?sslmode=disable"})
	require.ErrorContains(t, err, "connect")
	require.NotContains(t, err.Error(), "hunter2")
	require.Less(t, time.Since(began), 10*time.Second)
	_, err = postgres.Open(t.Context(), postgres.Config{})
	require.ErrorContains(t, err, "no URL")
	_, err = postgres.Open(t.Context(), postgres.Config{URL: "postgres://relay:hunter2@127.0.0.1:x/y"})
	require.Error(t, err)
	require.NotContains(t, err.Error(), "hunter2")
}

// TestOpenWaits: the server is away, hangs, or starts, when a process opens it; it
// is waited for. What it refuses is told at once.
func TestOpenWaits(t *testing.T) {
	pg := shared.Postgres(t)
	url := database(t, pg)
	for name, spoil := range map[string]func(*stacktest.Cable){
		"away": (*stacktest.Cable).Cut, "hanging": (*stacktest.Cable).Hang, "losing its answers": (*stacktest.Cable).Lose,
	} {
		t.Run(name, func(t *testing.T) {
			cable, through := stacktest.NewCable(t, url)
			spoil(cable)
			mended := time.AfterFunc(2*time.Second, cable.Mend)
			defer mended.Stop()
			s, err := postgres.Open(t.Context(), postgres.Config{URL: through, Patience: time.Minute})
			require.NoError(t, err)
			require.NoError(t, s.Close())
		})
	}
	t.Run("away for longer", func(t *testing.T) {
		cable, through := stacktest.NewCable(t, url)
		cable.Cut()
		_, err := postgres.Open(t.Context(), postgres.Config{URL: through, Patience: time.Second})
		require.ErrorIs(t, err, records.ErrUnavailable)
	})
	t.Run("refused", func(t *testing.T) {
		began := time.Now()
		_, err := postgres.Open(t.Context(), postgres.Config{URL: url + "&password=wrong", Patience: time.Hour})
		require.Error(t, err)
		require.NotErrorIs(t, err, records.ErrUnavailable)
		_, err = postgres.Open(t.Context(), postgres.Config{URL: url + "&dbname=none", Patience: time.Hour})
		require.ErrorContains(t, err, "does not exist")
		require.NotErrorIs(t, err, records.ErrUnavailable)
		require.Less(t, time.Since(began), time.Minute)
	})
}
