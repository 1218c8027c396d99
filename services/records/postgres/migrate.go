package postgres

import (
	"context"
	"embed"
	"errors"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/openova-io/bp-relay/services/records/internal/schema"
)

//go:embed migrations/*.sql
var migrations embed.FS

// A replica tries to get the lock once a second for five minutes.
const (
	lockEvery = 1   // seconds
	lockTries = 300 // times
)

// migrate migrates the schema under goose's advisory lock, on a connection
// without the pool's timeouts.
func migrate(ctx context.Context, cfg pgx.ConnConfig) (err error) {
	db := stdlib.OpenDB(cfg)
	defer func() { err = errors.Join(err, db.Close()) }()
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(lockEvery, lockTries))
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithDisableGlobalRegistry(true), goose.WithSessionLocker(locker))
	if err != nil {
		return err
	}
	return schema.Up(ctx, p)
}
