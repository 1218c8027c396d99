package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/internal/schema"
)

// prepare waits for the server and migrates the schema. A server that does not
// answer is asked again until the patience ends: it may be failing over. One that
// refuses the user, the database or TLS is an error at once.
func prepare(ctx context.Context, cfg Config, conn pgx.ConnConfig) error {
	try := func() (struct{}, error) {
		err := reach(ctx, conn)
		if err == nil {
			if err = migrate(ctx, conn); err != nil {
				err = fmt.Errorf("migrate: %w", err)
			}
		}
		if err == nil || ctx.Err() == nil && absent(err) {
			return struct{}{}, err
		}
		return struct{}{}, backoff.Permanent(err)
	}
	wait := backoff.NewExponentialBackOff()
	wait.InitialInterval, wait.MaxInterval = 100*time.Millisecond, 5*time.Second
	options := []backoff.RetryOption{backoff.WithBackOff(wait), backoff.WithMaxElapsedTime(cfg.Patience)}
	if cfg.Patience <= 0 {
		options = append(options, backoff.WithMaxTries(1))
	}
	said := false
	options = append(options, backoff.WithNotify(func(err error, _ time.Duration) {
		if !said {
			said = true
			cfg.Logger.WarnContext(ctx, "PostgreSQL does not answer; trying again", "patience", cfg.Patience, "error", err)
		}
	}))
	_, err := backoff.Retry(ctx, try, options...)
	switch {
	case err == nil:
		return nil
	case ctx.Err() == nil && absent(err):
		return fmt.Errorf("postgres: %w: %w", records.ErrUnavailable, err)
	default:
		return fmt.Errorf("postgres: %w", err)
	}
}

// reach connects once and asks for an answer.
func reach(ctx context.Context, cfg pgx.ConnConfig) error {
	ctx, cancel := context.WithTimeout(ctx, 2*connectTimeout)
	defer cancel()
	c, err := pgx.ConnectConfig(ctx, &cfg)
	if err != nil {
		return err
	}
	err = c.Ping(ctx)
	return errors.Join(err, c.Close(ctx))
}

// absent reports whether an error of connecting or migrating means that no server
// answers now: it is away, or starts or stops. What a server says is an answer, a
// certificate that does not verify too.
func absent(err error) bool {
	if pg := new(pgconn.PgError); errors.As(err, &pg) {
		return disconnected(pg)
	}
	refused := new(tls.CertificateVerificationError)
	return !errors.As(err, &refused) && !errors.Is(err, schema.ErrNewer)
}
