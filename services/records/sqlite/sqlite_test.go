package sqlite_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/internal/schema"
	"github.com/openova-io/bp-relay/services/records/recordstest"
	"github.com/openova-io/bp-relay/services/records/sqlite"
)

func open(t testing.TB, path string) *sqlite.DB {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func TestConformance(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	recordstest.Run(t, func(t *testing.T) records.DB { return open(t, filepath.Join(t.TempDir(), "relay.db")) })
}

func TestWindow(t *testing.T) {
	clock := new(recordstest.Clock)
	path := filepath.Join(t.TempDir(), "relay.db")
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path, Now: clock.Now})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	raw, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	defer func() { require.NoError(t, raw.Close()) }()
	recordstest.Window(t, s, clock, func() error { return sqlite.Clean(t.Context(), s) }, func() (n int) {
		require.NoError(t, raw.QueryRow("SELECT count(*) FROM requests").Scan(&n))
		return n
	})
}

// TestFiles: other users cannot read the records, and a path with special
// characters works.
func TestFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data ?mode=memory#%41")
	path := filepath.Join(dir, "relay&x=1.db")
	s := open(t, path)
	require.NoError(t, s.Ping(t.Context()))
	mode := func(path string) os.FileMode {
		t.Helper()
		info, err := os.Stat(path)
		require.NoError(t, err)
		return info.Mode().Perm()
	}
	require.Equal(t, os.FileMode(0o700), mode(dir))
	for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
		require.Equal(t, os.FileMode(0o600), mode(path+suffix), suffix)
	}
	_, err := sqlite.Open(t.Context(), sqlite.Config{})
	require.ErrorContains(t, err, "no path")
	_, err = sqlite.Open(t.Context(), sqlite.Config{Path: dir})
	require.Error(t, err, "a folder is no database")
	text := filepath.Join(t.TempDir(), "text")
	require.NoError(t, os.WriteFile(text, []byte("this is not a database, it is a text of some length"), 0o644))
	_, err = sqlite.Open(t.Context(), sqlite.Config{Path: text})
	require.ErrorContains(t, err, "not a database")
}

// TestDurable: the settings that make each commit fsync.
func TestDurable(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "relay.db"))
	journal, synchronous, err := sqlite.Settings(t.Context(), s)
	require.NoError(t, err)
	require.Equal(t, "wal", journal)
	require.EqualValues(t, 2, synchronous, "2 is FULL: https://www.sqlite.org/pragma.html#pragma_synchronous")
}

// TestOpenAtOnce: several processes that open a new file make one schema.
func TestOpenAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "relay.db")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
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
	path := filepath.Join(t.TempDir(), "relay.db")
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	raw, err := sql.Open("sqlite", path)
	require.NoError(t, err)
	_, err = raw.ExecContext(t.Context(), "INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, TRUE)")
	require.NoError(t, err)
	require.NoError(t, raw.Close())
	for range 2 {
		_, err = sqlite.Open(t.Context(), sqlite.Config{Path: path})
		require.ErrorIs(t, err, schema.ErrNewer)
		require.ErrorContains(t, err, "its schema has version 9999, this program knows")
	}
}
