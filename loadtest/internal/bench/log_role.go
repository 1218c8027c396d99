package bench

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/openova-io/bp-relay/loadtest/internal/child"
	"github.com/openova-io/bp-relay/services/format/leaf"
	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/postgres"
	"github.com/openova-io/bp-relay/services/records/sqlite"
)

// writers is the number of concurrent appends, as many as there may be mutating
// RPCs at a time.
const writers = 256

// logConfig configures the child "log"; one of the two is set.
type logConfig struct{ SQLite, Postgres string }

// logRole appends leaves to the evidence log for the time that each request
// gives, and answers with how many became durable.
func logRole(ctx context.Context, c *child.Conn, cfg logConfig) (err error) {
	log := slog.New(slog.DiscardHandler)
	var st records.DB
	if cfg.Postgres != "" {
		st, err = postgres.Open(ctx, postgres.Config{URL: cfg.Postgres, Logger: log})
	} else {
		st, err = sqlite.Open(ctx, sqlite.Config{Path: cfg.SQLite, Logger: log})
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	return answer(c, nil, func(d time.Duration) (int64, error) { return appendLeaves(ctx, st, d) })
}

// appendLeaves runs the writers, each of which appends one leaf per transaction
// and waits until it is durable, and counts the leaves durable within d.
func appendLeaves(ctx context.Context, st records.DB, d time.Duration) (int64, error) {
	var n atomic.Int64
	var group sync.WaitGroup
	errs := make([]error, writers)
	end := time.Now().Add(d)
	for i := range writers {
		group.Go(func() {
			for errs[i] == nil {
				var l leaf.Leaf
				l, errs[i] = leaf.New(uuid.Must(uuid.NewV7()).String(), leaf.Act{
					Type: "session.opened", Org: "bench", Actor: "user-1", Subject: "orgs/bench/sessions/1", Time: time.Now(),
					Detail: map[string]string{"connection": "orgs/bench/connections/host-1", "protocol": "ssh"},
				})
				if errs[i] == nil {
					errs[i] = st.Update(ctx, func(tx records.Tx) error { return tx.Leaf(ctx, records.Leaf(l)) })
				}
				if time.Now().After(end) {
					return
				}
				n.Add(1)
			}
		})
	}
	group.Wait()
	return n.Load(), errors.Join(errs...)
}
