package postgres_test

import (
	"fmt"
	"os"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/openova-io/bp-relay/services/store"
	"github.com/openova-io/bp-relay/services/store/postgres"
	"github.com/openova-io/bp-relay/services/store/storetest"
)

// pg is the server of this test binary.
var pg *server

func TestMain(m *testing.M) {
	var err error
	if pg, err = startServer(); err != nil {
		fmt.Fprintln(os.Stderr, "these tests need PostgreSQL 15 (apt install postgresql):", err)
		os.Exit(1)
	}
	code := m.Run()
	if err := pg.stop(syscall.SIGINT); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.RemoveAll(pg.dir)
	os.Exit(code)
}

func open(t testing.TB, url string) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), postgres.Config{URL: url})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func TestConformance(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, pg.url(pg.database(t))) })
}

// TestOpenAtOnce: replicas that start together make one schema.
func TestOpenAtOnce(t *testing.T) {
	url := pg.url(pg.database(t))
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
