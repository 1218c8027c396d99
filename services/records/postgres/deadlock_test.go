package postgres_test

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/postgres"
)

// TestGroupsDoNotDeadlock: the groups of two replicas that update the same few
// records in any order never wait for each other in a circle. The server counts
// that, with its default deadlock_timeout.
func TestGroupsDoNotDeadlock(t *testing.T) {
	pg := shared.Postgres(t)
	u, err := url.Parse(database(t, pg))
	require.NoError(t, err)
	name := strings.TrimPrefix(u.Path, "/")
	sql(t, pg, "ALTER DATABASE "+name+" RESET deadlock_timeout")
	var replicas []*postgres.DB
	for range 2 {
		s, err := postgres.Open(t.Context(), postgres.Config{URL: u.String()})
		require.NoError(t, err)
		replicas = append(replicas, s)
	}
	const rooms, writers, each = 4, 80, 4
	for i := range rooms {
		require.NoError(t, replicas[0].Update(t.Context(), func(tx records.Tx) error {
			_, err := tx.Insert(t.Context(), records.Record{Kind: records.Rooms, Name: fmt.Sprint("r", i), Org: "acme"})
			return err
		}))
	}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := range each {
				if err := raise(t, replicas[w%2], fmt.Sprint("r", (w+n)%rooms)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for i := range rooms {
		require.NoError(t, replicas[0].View(t.Context(), func(tx records.Tx) error {
			r, err := tx.Get(t.Context(), records.Rooms, fmt.Sprint("r", i))
			require.EqualValues(t, 1+writers*each/rooms, r.Version)
			return err
		}))
	}
	for _, s := range replicas { // a connection that ends reports its counts
		require.NoError(t, s.Close())
	}
	require.Zero(t, deadlocks(t, pg.URL, name))
}

// raise makes the record's next version.
func raise(t *testing.T, s *postgres.DB, name string) error {
	for {
		err := s.Update(t.Context(), func(tx records.Tx) error {
			r, err := tx.Get(t.Context(), records.Rooms, name)
			if err == nil {
				_, err = tx.Update(t.Context(), r)
			}
			return err
		})
		if !errors.Is(err, records.ErrConflict) {
			return err
		}
	}
}

// deadlocks is how many deadlocks the server has found in a database.
func deadlocks(t *testing.T, server, database string) (n int64) {
	c, err := pgx.Connect(t.Context(), server)
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close(t.Context())) }()
	require.NoError(t, c.QueryRow(t.Context(), "SELECT deadlocks FROM pg_stat_database WHERE datname = $1", database).Scan(&n))
	return n
}
