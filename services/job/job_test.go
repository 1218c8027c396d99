package job_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/openova-io/bp-relay/services/bus/inproc"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
	"github.com/openova-io/bp-relay/services/job"
	"github.com/openova-io/bp-relay/services/job/jobtest"
	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/postgres"
	"github.com/openova-io/bp-relay/services/records/sqlite"
)

func TestSQLite(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	jobtest.Run(t, func(t *testing.T) records.DB {
		db, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "records.db")})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		return db
	})
}

// TestPostgres gives all tests one database: each removes its jobs.
func TestPostgres(t *testing.T) {
	server := stacktest.Postgres(t)
	jobtest.Run(t, func(t *testing.T) records.DB {
		db, err := postgres.Open(t.Context(), postgres.Config{URL: server.URL})
		require.NoError(t, err)
		t.Cleanup(func() {
			require.NoError(t, deleteAll(db))
			require.NoError(t, db.Close())
		})
		return db
	})
}

func TestConfig(t *testing.T) {
	for _, cfg := range []job.Config{{}, {Bus: inproc.New()}, {Bus: inproc.New(), Works: map[string]job.Work{}}} {
		_, err := job.New(cfg)
		require.Error(t, err)
	}
}

func deleteAll(db records.DB) error {
	return db.Update(context.Background(), func(tx records.Tx) error {
		all, err := tx.List(context.Background(), records.Query{Kind: records.Jobs, Limit: 1000})
		if err != nil {
			return err
		}
		for _, rec := range all {
			if err := tx.Delete(context.Background(), records.Jobs, rec.Name, 0); err != nil {
				return err
			}
		}
		return nil
	})
}
