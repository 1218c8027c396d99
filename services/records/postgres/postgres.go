// Package postgres keeps the records in PostgreSQL, for production. It uses pgx
// v5. A few committers each make one transaction out of the waiting updates, as
// the SQLite engine does, at READ COMMITTED: correctness rests on unique indexes
// and on the compare-and-swap of row versions, not on serializability. If a
// group meets a deadlock, or its connection breaks before COMMIT was sent, its
// updates are run again one by one.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/internal/groupcommit"
	"github.com/openova-io/bp-relay/services/records/internal/rows"
)

const (
	defaultWriters = 4
	defaultReaders = 8
	// groupTimeout bounds a transaction if the server no longer answers.
	groupTimeout   = 30 * time.Second
	connectTimeout = 5 * time.Second
)

// Config says where the records are.
type Config struct {
	// URL of the database: postgres://user:password@host:port/name?sslmode=...
	// The standard PG* environment variables supply what it omits.
	URL string
	// Writers and Readers are how many transactions write and read at once; 0
	// means 4 and 8. Their sum bounds the number of connections.
	Writers, Readers int
	// Patience is how long Open waits for a server that does not answer, or that
	// starts or stops; 0 means that it tries once.
	Patience time.Duration
	// Logger defaults to slog.Default().
	Logger *slog.Logger
	// Now is the clock of create and update times and of the 24 h for which
	// answers are remembered; it defaults to time.Now.
	Now func() time.Time
}

// DB implements records.DB.
type DB struct {
	pool  *pgxpool.Pool
	now   func() time.Time
	log   *slog.Logger
	queue *groupcommit.Queue[handle]

	closed  atomic.Bool
	stop    context.CancelFunc
	janitor sync.WaitGroup
}

// engine is the DB as package rows uses it.
type engine struct{ *DB }

// handle is what the function of an update in a group is given.
type handle struct {
	tx *rows.Tx
	db rows.DB
}

var (
	_ records.DB  = (*DB)(nil)
	_ rows.Engine = engine{}
)

// Open connects and migrates the schema; replicas that start at once wait for
// each other. Its error wraps records.ErrUnavailable if the server does not answer
// within Config.Patience. The caller closes the DB.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	if cfg.URL == "" {
		return nil, errors.New("postgres: no URL")
	}
	if cfg.Writers <= 0 {
		cfg.Writers = defaultWriters
	}
	if cfg.Readers <= 0 {
		cfg.Readers = defaultReaders
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	pc, err := pgxpool.ParseConfig(cfg.URL)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err) // pgx leaves the password out
	}
	if pc.ConnConfig.ConnectTimeout == 0 || pc.ConnConfig.ConnectTimeout > connectTimeout {
		pc.ConnConfig.ConnectTimeout = connectTimeout
	}
	if err := prepare(ctx, cfg, *pc.ConnConfig.Copy()); err != nil {
		return nil, err
	}
	pc.MaxConns = int32(cfg.Writers + cfg.Readers)
	for k, v := range map[string]string{
		"application_name":                    "bp-relay",
		"statement_timeout":                   "30s",
		"lock_timeout":                        "15s",
		"idle_in_transaction_session_timeout": "60s",
	} {
		if pc.ConnConfig.RuntimeParams[k] == "" {
			pc.ConnConfig.RuntimeParams[k] = v
		}
	}
	pc.AfterConnect = durable
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	s := &DB{pool: pool, now: cfg.Now, log: cfg.Logger}
	if err := s.warn(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("postgres: %w", err)
	}
	s.queue = groupcommit.New(cfg.Writers, s.commitGroup)
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.janitor.Go(func() { rows.Janitor(run, engine{s}, s.now, s.log) })
	return s, nil
}

// durable makes COMMIT wait for the disk if the server's default does not. It
// keeps stronger settings (remote_apply).
// https://www.postgresql.org/docs/15/runtime-config-wal.html#GUC-SYNCHRONOUS-COMMIT
func durable(ctx context.Context, c *pgx.Conn) error {
	_, err := c.Exec(ctx, "SELECT set_config('synchronous_commit', 'on', false)"+
		" WHERE current_setting('synchronous_commit') = 'off'")
	return err
}

// warn logs server settings that lose commits and that a client cannot change.
func (s *DB) warn(ctx context.Context) error {
	var fsync, fullPage string
	err := s.pool.QueryRow(ctx, "SELECT current_setting('fsync'), current_setting('full_page_writes')").Scan(&fsync, &fullPage)
	if err != nil {
		return err
	}
	if fsync != "on" || fullPage != "on" {
		s.log.WarnContext(ctx, "PostgreSQL may lose acknowledged commits; set fsync and full_page_writes to on",
			"fsync", fsync, "full_page_writes", fullPage)
	}
	return nil
}

// Update implements records.DB.
func (s *DB) Update(ctx context.Context, fn func(tx records.Tx) error) error {
	return unavailable(ctx, s.queue.Do(ctx, func(h handle) error { return fn(h.tx) }))
}

// View implements records.DB.
func (s *DB) View(ctx context.Context, fn func(tx records.Tx) error) error {
	return engine{s}.Read(ctx, func(db rows.DB) error {
		tx := rows.NewView(db, s.now)
		defer tx.Close()
		return fn(tx)
	})
}

// Read runs fn over one snapshot, with direct access to the statements.
func (s engine) Read(ctx context.Context, fn func(db rows.DB) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release()
	db := &session{conn: c.Conn(), readOnly: true,
		queued: []string{"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"}}
	defer db.rollback(context.WithoutCancel(ctx))
	return unavailable(ctx, db.failure(fn(db)))
}

// Write runs fn in its own transaction, with direct access to the statements, so
// that a group does not hold the log's locks while it waits for something else.
func (s engine) Write(ctx context.Context, fn func(db rows.DB) error) error {
	for try := 1; ; try++ {
		err := s.write(ctx, fn)
		if err == nil || !repeatable(err) || try == maxTries {
			return unavailable(ctx, err)
		}
		if err := pause(ctx, try); err != nil {
			return err
		}
	}
}

func (s *DB) write(ctx context.Context, fn func(db rows.DB) error) error {
	c, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release()
	ctx, cancel := context.WithTimeout(ctx, groupTimeout)
	defer cancel()
	db := &session{conn: c.Conn(), ctx: ctx, bare: true, queued: []string{begin}}
	defer db.rollback(context.WithoutCancel(ctx))
	if err := fn(db); err != nil {
		return db.failure(err)
	}
	return db.commit()
}

// acquire takes a connection from the pool, or returns ctx's error,
// records.ErrClosed or records.ErrUnavailable.
func (s *DB) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	c, err := s.pool.Acquire(ctx)
	switch {
	case err == nil:
		return c, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case s.closed.Load():
		return nil, records.ErrClosed
	}
	return nil, fmt.Errorf("%w: postgres: connect: %w", records.ErrUnavailable, err)
}

// Log implements records.DB.
func (s *DB) Log() records.Log { return rows.NewLog(engine{s}) }

// Ping implements records.DB.
func (s *DB) Ping(ctx context.Context) error {
	c, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release()
	if err := c.Ping(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: postgres: ping: %w", records.ErrUnavailable, err)
	}
	return ctx.Err()
}

// Close implements records.DB.
func (s *DB) Close() error {
	s.stop()
	s.janitor.Wait()
	if s.queue.Close() {
		s.closed.Store(true)
		s.pool.Close() // waits until each connection is released
	}
	return nil
}
