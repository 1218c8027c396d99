package bench

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/openova-io/bp-relay/loadtest/child"
	"github.com/openova-io/bp-relay/services/evidence/leaf"
	"github.com/openova-io/bp-relay/services/store"
	"github.com/openova-io/bp-relay/services/store/postgres"
	"github.com/openova-io/bp-relay/services/store/sqlite"
)

// writers is how many append at a time: as many as RPCs that change something
// may be under way.
const writers = 256

// logConfig is what the child "log" is started with: one of the two.
type logConfig struct{ SQLite, Postgres string }

// logRole appends leaves to the evidence log for as long as each request says
// and answers how many became durable.
func logRole(ctx context.Context, c *child.Conn) (err error) {
	var cfg logConfig
	if err := c.Next(&cfg); err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler)
	var st store.Store
	if cfg.Postgres != "" {
		st, err = postgres.Open(ctx, postgres.Config{URL: cfg.Postgres, Logger: log})
	} else {
		st, err = sqlite.Open(ctx, sqlite.Config{Path: cfg.SQLite, Logger: log})
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	if err := c.Answer(nil); err != nil {
		return err
	}
	for {
		var d time.Duration
		if err := c.Next(&d); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		n, err := appendLeaves(ctx, st, d)
		if err != nil {
			return err
		}
		if err := c.Answer(n); err != nil {
			return err
		}
	}
}

// appendLeaves lets the writers append one leaf per transaction, each waiting
// until its own is durable, and counts those that were within d.
func appendLeaves(ctx context.Context, st store.Store, d time.Duration) (int64, error) {
	var n atomic.Int64
	var group sync.WaitGroup
	errs := make([]error, writers)
	end := time.Now().Add(d)
	for i := range writers {
		group.Go(func() {
			for errs[i] == nil {
				var l store.Leaf
				l, errs[i] = leaf.New(leaf.Act{
					Type: "session.opened", Org: "bench", Actor: "user-1", Subject: "orgs/bench/sessions/1", Time: time.Now(),
					Detail: map[string]string{"connection": "orgs/bench/connections/host-1", "protocol": "ssh"},
				})
				if errs[i] == nil {
					errs[i] = st.Update(ctx, func(tx store.Tx) error { return tx.Leaf(ctx, l) })
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
