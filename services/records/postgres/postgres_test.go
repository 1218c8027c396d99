package postgres_test

import (
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/internal/schema"
	"github.com/openova-io/bp-relay/services/records/postgres"
	"github.com/openova-io/bp-relay/services/records/recordstest"
)

func open(t testing.TB, url string) *postgres.DB {
	t.Helper()
	s, err := postgres.Open(t.Context(), postgres.Config{URL: url})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func TestConformance(t *testing.T) {
	shared.Postgres(t)
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	recordstest.Run(t, func(t *testing.T) records.DB { return open(t, database(t, shared.Postgres(t))) })
}

// TestOpenAtOnce: replicas that start together make one schema.
func TestOpenAtOnce(t *testing.T) {
	url := database(t, shared.Postgres(t))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			s, err := postgres.Open(t.Context(), postgres.Config{URL: url})
			if err != nil {
				t.Errorf("open: %v", err)
				return
			}
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
	wg.Wait()
}

// TestNewerSchema: a database that a newer release has migrated is refused and
// stays as it is.
func TestNewerSchema(t *testing.T) {
	url := database(t, shared.Postgres(t))
	s, err := postgres.Open(t.Context(), postgres.Config{URL: url})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	raw, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	_, err = raw.Exec(t.Context(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, TRUE)")
	require.NoError(t, err)
	require.NoError(t, raw.Close(t.Context()))
	for range 2 {
		_, err = postgres.Open(t.Context(), postgres.Config{URL: url})
		require.ErrorIs(t, err, schema.ErrNewer)
		require.ErrorContains(t, err, "its schema has version 9999, this program knows")
	}
}
