package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/openova-io/bp-relay/services/blob"
	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/bus/inproc"
	"github.com/openova-io/bp-relay/services/bus/redis"
	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/evidence/ledger"
	"github.com/openova-io/bp-relay/services/internal/keyring"
	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/postgres"
	"github.com/openova-io/bp-relay/services/records/sqlite"
)

// openRecords opens PostgreSQL if its URL is configured, else SQLite. PostgreSQL is
// waited for as long as patience says.
func openRecords(ctx context.Context, cfg *Config, patience time.Duration, log *slog.Logger) (records.DB, error) {
	url, err := cfg.Records.Postgres.Reveal()
	if err != nil {
		return nil, err
	}
	if url == "" {
		return sqlite.Open(ctx, sqlite.Config{Path: cfg.path("records.db"), Logger: log})
	}
	db, err := postgres.Open(ctx, postgres.Config{URL: url, Patience: patience, Logger: log})
	if errors.Is(err, records.ErrUnavailable) {
		return nil, fmt.Errorf("PostgreSQL does not answer; check records.postgres: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL refuses the connection; check records.postgres: %w", err)
	}
	return db, nil
}

func makeRecords(ctx context.Context, b *builder) (records.DB, error) {
	db, err := openRecords(ctx, &b.cfg, b.cfg.Startup, b.log)
	if err != nil {
		return nil, err
	}
	b.closer(db.Close)
	b.check(check{name: "records", required: true, ask: db.Ping})
	b.check(check{name: "alarms", absent: "degraded: ", ask: func(ctx context.Context) error { return openAlarms(ctx, db) }})
	b.metrics.MustRegister(newAlarmMetric(db))
	return db, nil
}

// makeKeys loads the master key. A key other than the one that the records were
// created with is an error.
func makeKeys(ctx context.Context, b *builder, db records.DB) (*keyring.Keyring, error) {
	path := b.cfg.Keys.Master
	if path == "" {
		path = b.cfg.path("master.key")
	}
	keys, err := keyring.Load(path)
	if err != nil {
		return nil, err
	}
	if err := ledger.SameKey(ctx, db, keys); err != nil {
		return nil, fmt.Errorf("master key %s: %w", path, err)
	}
	return keys, nil
}

// makeBus connects to Redis if its URL is configured; else live state is in
// this process.
func makeBus(ctx context.Context, b *builder) (bus.Bus, error) {
	url, err := b.cfg.Bus.Redis.Reveal()
	if err != nil {
		return nil, err
	}
	var live bus.Bus
	if url == "" {
		live = inproc.New()
	} else {
		redis.LogTo(b.log)
		if live, err = redis.New(redis.Config{URL: url, Logger: b.log}); err != nil {
			return nil, err
		}
		if b.cfg.runsOnBus() {
			if err := b.awaitRedis(ctx, live); err != nil {
				return nil, errors.Join(err, live.Close())
			}
		}
	}
	b.closer(live.Close)
	b.check(check{name: "bus", required: b.cfg.runsOnBus(), absent: "degraded: ", ask: live.Ping})
	return live, nil
}

// awaitRedis waits until Redis answers, for as long as the configuration says. What
// Redis refuses, such as the password, is an error at once.
func (b *builder) awaitRedis(ctx context.Context, live bus.Bus) error {
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 100*time.Millisecond, 5*time.Second
	options := []backoff.RetryOption{backoff.WithBackOff(wait), backoff.WithMaxElapsedTime(b.cfg.Startup)}
	if b.cfg.Startup <= 0 {
		options = append(options, backoff.WithMaxTries(1))
	}
	said := false
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := live.Ping(ctx)
		if err == nil || !redis.Refused(err) {
			return struct{}{}, err
		}
		return struct{}{}, backoff.Permanent(err)
	}, append(options, backoff.WithNotify(func(err error, _ time.Duration) {
		if !said {
			said = true
			b.log.WarnContext(ctx, "Redis does not answer; trying again", "patience", b.cfg.Startup, "error", err)
		}
	}))...)
	switch {
	case err == nil:
		return nil
	case redis.Refused(err):
		return fmt.Errorf("redis refuses the connection; check bus.redis: %w", err)
	default:
		return fmt.Errorf("redis does not answer; check bus.redis: %w", err)
	}
}

func makeCapture(b *builder, db records.DB, keys *keyring.Keyring, st blob.Store) (*capture.Manager, error) {
	m, err := capture.New(capture.Config{
		Dir: b.cfg.path("spool"), Records: db, Blob: st, Keys: keys, Logger: b.log, MaxSpool: b.cfg.Capture.MaxSpool,
		Quota: capture.Quota{Share: b.cfg.Capture.OrgShare, Required: b.cfg.Capture.RequiredShare, Orgs: b.cfg.Capture.Orgs},
	})
	if err != nil {
		return nil, err
	}
	b.metrics.MustRegister(m.Metrics()...)
	b.check(check{name: "spool", ask: func(context.Context) error { return pressure(m.Usage()) }})
	b.task("capture", m.Run)
	return m, nil
}
