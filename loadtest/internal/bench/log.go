package bench

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/openova-io/bp-relay/loadtest/internal/child"
	"github.com/openova-io/bp-relay/loadtest/internal/measure"
	"github.com/openova-io/bp-relay/services/dev/stack"
)

// logTime is the duration of a round of the case "log".
const logTime = 2 * time.Second

// logAppends is the case "log": the number of leaves per second that become
// durable, on SQLite and on PostgreSQL.
func logAppends(ctx context.Context, l *Lab) (rows []measure.Result, err error) {
	dir, err := l.scratch("log")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	pg, err := l.env.StartPostgres(ctx, stack.PostgresConfig{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, pg.Stop()) }()
	configs := []logConfig{{SQLite: filepath.Join(dir, "records.db")}, {Postgres: pg.URL}}
	procs := make([]*child.Child, len(configs))
	for i, cfg := range configs {
		if procs[i], err = child.Again(ctx, "log", cfg, nil); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, procs[i].Stop()) }()
	}
	var rates [2]measure.Sample
	err = l.turns(ctx, len(procs), l.rounds(6), func(ctx context.Context, _, i int) error {
		d := size(l, logTime)
		var n int64
		if err := procs[i].Call(ctx, d, &n); err != nil {
			return err
		}
		rates[i] = append(rates[i], float64(n)/d.Seconds())
		return nil
	})
	if err != nil {
		return nil, err
	}
	return []measure.Result{
		measure.Of("log.appends.sqlite", "/s", rates[0]).Judge(measure.AtLeast, 5000),
		measure.Of("log.appends.postgres", "/s", rates[1]).Judge(measure.AtLeast, 5000),
	}, nil
}
