package postgres_test

import (
	"fmt"
	"net/url"
	"os"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/dev/stack"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
)

// shared is the server of this test binary; databases counts its databases.
var (
	shared    stacktest.Shared
	databases atomic.Int64
)

func TestMain(m *testing.M) { os.Exit(shared.Run(m)) }

// sql runs one statement as the cluster's superuser.
func sql(t testing.TB, pg *stack.Postgres, query string) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), pg.URL)
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close(t.Context())) }()
	_, err = c.Exec(t.Context(), query)
	require.NoError(t, err)
}

// database makes an empty database and returns its URL. Its locale does not sort
// names bytewise, and it detects deadlocks sooner.
func database(t testing.TB, pg *stack.Postgres) string {
	t.Helper()
	name := fmt.Sprintf("t%d", databases.Add(1))
	sql(t, pg, "CREATE DATABASE "+name+" TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'")
	sql(t, pg, "ALTER DATABASE "+name+" SET deadlock_timeout = '200ms'")
	u, err := url.Parse(pg.URL)
	require.NoError(t, err)
	u.Path = "/" + name
	return u.String()
}
