package replica_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/internal/replica"
	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/sqlite"
)

// cut is the records as one replica reaches them.
type cut struct {
	records.DB
	away atomic.Bool
}

func (c *cut) Update(ctx context.Context, fn func(tx records.Tx) error) error {
	if c.away.Load() {
		return records.ErrUnavailable
	}
	return c.DB.Update(ctx, fn)
}

func open(t *testing.T) records.DB {
	t.Helper()
	db, err := sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "records.db"), Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func beat(t *testing.T, rs ...*replica.Replica) {
	t.Helper()
	for _, r := range rs {
		require.NoError(t, r.Beat(t.Context()))
	}
}

func TestUnseen(t *testing.T) {
	db := open(t)
	away := &cut{DB: db}
	a := replica.New(replica.Config{Records: away, ID: "a", Every: time.Second})
	b := replica.New(replica.Config{Records: db, ID: "b", Every: time.Second})
	for range 3 {
		beat(t, a, b)
	}
	require.Zero(t, b.Unseen("a"))
	require.Zero(t, a.Unseen("b"))
	require.Zero(t, b.Unseen("b"), "oneself")

	away.away.Store(true)
	require.ErrorIs(t, a.Beat(t.Context()), records.ErrUnavailable)
	beat(t, b)
	require.Zero(t, b.Unseen("a"), "one sighting is none")
	beat(t, b, b)
	require.Equal(t, 3*time.Second, b.Unseen("a"))
	require.Zero(t, a.Unseen("b"), "who reaches no records judges nobody")

	away.away.Store(false)
	beat(t, a, b)
	require.Zero(t, b.Unseen("a"), "it is back")
}

// While the records are away for everybody, nobody grows old.
func TestRecordsAwayForAll(t *testing.T) {
	away := &cut{DB: open(t)}
	a := replica.New(replica.Config{Records: away, ID: "a", Every: time.Second})
	b := replica.New(replica.Config{Records: away, ID: "b", Every: time.Second})
	beat(t, a, b)
	away.away.Store(true)
	for range 100 {
		require.Error(t, a.Beat(t.Context()))
		require.Error(t, b.Beat(t.Context()))
	}
	away.away.Store(false)
	beat(t, b)
	require.Zero(t, b.Unseen("a"))
	beat(t, a, b)
	require.Zero(t, b.Unseen("a"))
}

// A process that stops is gone for others after two of their heartbeats, and one
// that nobody has heard of, too.
func TestGone(t *testing.T) {
	db := open(t)
	a := replica.New(replica.Config{Records: db, ID: "a", Every: 10 * time.Millisecond})
	b := replica.New(replica.Config{Records: db, ID: "b", Every: time.Second})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	require.Eventually(t, func() bool {
		var found []records.Record
		require.NoError(t, db.View(t.Context(), func(tx records.Tx) (err error) {
			found, err = tx.List(t.Context(), records.Query{Kind: records.Replicas})
			return err
		}))
		return len(found) == 1
	}, 10*time.Second, 5*time.Millisecond)
	beat(t, b)
	cancel()
	require.NoError(t, <-done)
	require.Zero(t, b.Unseen("never"))
	beat(t, b, b, b)
	require.Equal(t, 2*time.Second, b.Unseen("a"))
	require.Equal(t, 3*time.Second, b.Unseen("never"))
}

// Processes come and go for years: those that are gone are forgotten, but for one
// that somebody still asks for.
func TestGoneReplicasAreForgotten(t *testing.T) {
	db := open(t)
	b := replica.New(replica.Config{Records: db, ID: "b", Every: time.Second})
	b.SetForgetAfter(5)
	for _, id := range []string{"killed 1", "killed 2", "killed 3"} {
		beat(t, replica.New(replica.Config{Records: db, ID: id}))
	}
	beat(t, b)
	require.Equal(t, 3, b.Known())
	require.Zero(t, b.Unseen("never"))
	for range 20 {
		beat(t, b)
		b.Unseen("killed 1")
	}
	require.Equal(t, 1, b.Known())
	require.Greater(t, b.Unseen("killed 1"), 5*time.Second, "it is still gone")
	require.NoError(t, db.View(t.Context(), func(tx records.Tx) error {
		found, err := tx.List(t.Context(), records.Query{Kind: records.Replicas})
		require.Len(t, found, 1, "its own row")
		return err
	}))
}
