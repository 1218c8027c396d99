// Package postgres keeps the records in PostgreSQL: the store of production.
// It uses pgx v5. A few writer goroutines each make one transaction out of
// the updates that wait, as the SQLite engine does, at READ COMMITTED:
// correctness rests on unique indexes and on the compare-and-swap of row
// versions, not on serializability. A group that meets a deadlock, or whose
// connection breaks before COMMIT was sent, is run again member by member.
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

	"github.com/openova-io/bp-relay/services/store"
	"github.com/openova-io/bp-relay/services/store/internal/group"
	"github.com/openova-io/bp-relay/services/store/internal/rows"
)

const (
	defaultWriters = 4
	defaultReaders = 8
	// groupTimeout bounds a transaction whose server no longer answers.
	groupTimeout   = 30 * time.Second
	connectTimeout = 5 * time.Second
)

// Config says where the records are.
type Config struct {
	// URL of the database: postgres://user:password@host:port/name?sslmode=...
	// The standard PG* environment variables fill what it leaves out.
	URL string
	// Writers is how many transactions write at once, Readers how many read;
	// 0 means 4 and 8. Their sum bounds the connections.
	Writers, Readers int
	// Logger; nil means slog.Default().
	Logger *slog.Logger
	// Now is the clock of create and update times and of the 24 h for which
	// answers are remembered; nil means time.Now.
	Now func() time.Time
}

// Store implements store.Store.
type Store struct {
	pool  *pgxpool.Pool
	now   func() time.Time
	log   *slog.Logger
	queue *group.Queue[lent]

	closed  atomic.Bool
	stop    context.CancelFunc
	janitor sync.WaitGroup
}

// engine is the Store as the shared statements see it.
type engine struct{ *Store }

// lent is what a member of a group gets.
type lent struct {
	tx *rows.Tx
	db rows.DB
}

var (
	_ store.Store = (*Store)(nil)
	_ rows.Engine = engine{}
)

// Open connects and brings the schema up to date; replicas that start at once
// wait for each other. The store must be closed.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.URL == "" {
		return nil, errors.New("store/postgres: no URL")
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
		return nil, fmt.Errorf("store/postgres: %w", err) // pgx leaves the password out
	}
	if err := migrate(ctx, *pc.ConnConfig); err != nil {
		return nil, fmt.Errorf("store/postgres: migrate: %w", err)
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
	if pc.ConnConfig.ConnectTimeout == 0 || pc.ConnConfig.ConnectTimeout > connectTimeout {
		pc.ConnConfig.ConnectTimeout = connectTimeout
	}
	pc.AfterConnect = durable
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("store/postgres: %w", err)
	}
	s := &Store{pool: pool, now: cfg.Now, log: cfg.Logger}
	if err := s.warn(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("store/postgres: %w", err)
	}
	s.queue = group.New(cfg.Writers, s.lead)
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.janitor.Go(func() { rows.Janitor(run, engine{s}, s.now, s.log) })
	return s, nil
}

// durable makes COMMIT wait for the disk where the server's default does not;
// stronger settings (remote_apply) are left alone.
// https://www.postgresql.org/docs/15/runtime-config-wal.html#GUC-SYNCHRONOUS-COMMIT
func durable(ctx context.Context, c *pgx.Conn) error {
	_, err := c.Exec(ctx, "SELECT set_config('synchronous_commit', 'on', false)"+
		" WHERE current_setting('synchronous_commit') = 'off'")
	return err
}

// warn says what no client can repair.
func (s *Store) warn(ctx context.Context) error {
	var fsync, fullPage string
	err := s.pool.QueryRow(ctx, "SELECT current_setting('fsync'), current_setting('full_page_writes')").Scan(&fsync, &fullPage)
	if err != nil {
		return err
	}
	if fsync != "on" || fullPage != "on" {
		s.log.Warn("PostgreSQL can lose what it has acknowledged; set fsync and full_page_writes to on",
			"fsync", fsync, "full_page_writes", fullPage)
	}
	return nil
}

// Update implements store.Store.
func (s *Store) Update(ctx context.Context, fn func(tx store.Tx) error) error {
	return s.queue.Do(ctx, func(l lent) error { return fn(l.tx) })
}

// View implements store.Store.
func (s *Store) View(ctx context.Context, fn func(tx store.Tx) error) error {
	return engine{s}.Read(ctx, func(db rows.DB) error {
		tx := rows.NewView(db, s.now)
		defer tx.End()
		return fn(tx)
	})
}

// Read runs fn over one snapshot, with the bare statements.
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
	return fn(db)
}

// Write runs fn in a transaction of its own, with the bare statements: the
// log's locks are not held while a group waits for something else.
func (s engine) Write(ctx context.Context, fn func(db rows.DB) error) error {
	for try := 1; ; try++ {
		err := s.write(ctx, fn)
		if err == nil || !repeatable(err) || try == maxTries {
			return err
		}
		if err := pause(ctx, try); err != nil {
			return err
		}
	}
}

func (s *Store) write(ctx context.Context, fn func(db rows.DB) error) error {
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
		if db.fatal != nil {
			return db.fatal
		}
		return err
	}
	return db.commit()
}

// acquire takes a connection; after Close there is none.
func (s *Store) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	c, err := s.pool.Acquire(ctx)
	switch {
	case err == nil:
		return c, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case s.closed.Load():
		return nil, store.ErrClosed
	}
	return nil, fmt.Errorf("store/postgres: connect: %w", err)
}

// Log implements store.Store.
func (s *Store) Log() store.Log { return rows.NewLog(engine{s}) }

// Ping implements store.Store.
func (s *Store) Ping(ctx context.Context) error {
	c, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release()
	return c.Ping(ctx)
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.stop()
	s.janitor.Wait()
	if s.queue.Close() {
		s.closed.Store(true)
		s.pool.Close() // waits until each connection is given back
	}
	return nil
}
