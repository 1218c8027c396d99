// Package sqlite keeps the records in one SQLite file: the embedded default.
// It uses modernc.org/sqlite (no cgo), a write-ahead log, synchronous=FULL (a
// commit returns after its fsync), one writer connection whose commits are
// grouped, and a few reader connections, each with its own snapshot. Several
// processes may open the same file; they wait for each other's commits.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/openova-io/bp-relay/services/records"
	"github.com/openova-io/bp-relay/services/records/internal/groupcommit"
	"github.com/openova-io/bp-relay/services/records/internal/rows"

	_ "modernc.org/sqlite" // the driver
)

const (
	readers     = 4
	busyTimeout = 10 * time.Second
)

// Config says where the records are.
type Config struct {
	// Path of the file. Open creates it with mode 0600 and its folder with 0700.
	Path string
	// Logger defaults to slog.Default().
	Logger *slog.Logger
	// Now is the clock of create and update times and of the 24 h for which
	// answers are remembered; it defaults to time.Now.
	Now func() time.Time
}

// DB implements records.DB.
type DB struct {
	db     *sql.DB
	now    func() time.Time
	log    *slog.Logger
	writer *conn
	idle   chan *conn // readers
	queue  *groupcommit.Queue[handle]

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

// Open opens the file, which it creates if it is missing, and migrates its
// schema. The caller closes the DB.
func Open(ctx context.Context, cfg Config) (_ *DB, err error) {
	if cfg.Path == "" {
		return nil, errors.New("sqlite: no path")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	if err := create(path); err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	db, err := sql.Open("sqlite", dsn(path))
	if err != nil {
		return nil, fmt.Errorf("sqlite: open %s: %w", path, err)
	}
	db.SetMaxOpenConns(readers + 1)
	db.SetMaxIdleConns(readers + 1)
	s := &DB{db: db, now: cfg.Now, log: cfg.Logger, idle: make(chan *conn, readers)}
	defer func() {
		if err != nil {
			err = errors.Join(err, db.Close())
		}
	}()
	if err := migrate(ctx, db, path); err != nil {
		return nil, fmt.Errorf("sqlite: migrate %s: %w", path, err)
	}
	if s.writer, err = dial(ctx, db); err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	for range readers {
		c, err := dial(ctx, db)
		if err != nil {
			return nil, fmt.Errorf("sqlite: %w", err)
		}
		s.idle <- c
	}
	s.queue = groupcommit.New(1, s.commitGroup)
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.janitor.Go(func() { rows.Janitor(run, engine{s}, s.now, s.log) })
	return s, nil
}

// create creates the folder and the file before SQLite does, because SQLite
// would use the process's umask. SQLite's -wal and -shm files get the file's
// mode.
func create(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(0o600), f.Close()); err != nil {
		return err
	}
	// Make the names of the file and the folder durable, too.
	folder := filepath.Dir(path)
	return errors.Join(syncFolder(filepath.Dir(folder)), syncFolder(folder))
}

func syncFolder(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrPermission) {
		return nil // a parent of another user: its entries are not new
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Update implements records.DB.
func (s *DB) Update(ctx context.Context, fn func(tx records.Tx) error) error {
	return s.queue.Do(ctx, func(h handle) error { return fn(h.tx) })
}

// Write runs fn as an update in a group, with direct access to the statements.
func (s engine) Write(ctx context.Context, fn func(db rows.DB) error) error {
	return s.queue.Do(ctx, func(h handle) error { return fn(h.db) })
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
	var c *conn
	select {
	case got, open := <-s.idle:
		if !open {
			return records.ErrClosed
		}
		c = got
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { s.idle <- c }()
	if _, err := c.exec(ctx, "BEGIN"); err != nil {
		return fmt.Errorf("sqlite: begin: %w", err)
	}
	defer func() {
		if _, err := c.exec(context.WithoutCancel(ctx), "ROLLBACK"); err != nil {
			s.log.ErrorContext(ctx, "sqlite: end a snapshot", "error", err)
		}
	}()
	return fn(view{conn: c})
}

// Log implements records.DB.
func (s *DB) Log() records.Log { return rows.NewLog(engine{s}) }

// Ping implements records.DB.
func (s *DB) Ping(ctx context.Context) error {
	return engine{s}.Read(ctx, func(db rows.DB) error {
		return db.Query(ctx, func(rows.Row) error { return nil }, "SELECT size FROM log_state")
	})
}

// Close implements records.DB.
func (s *DB) Close() error {
	s.stop()
	s.janitor.Wait()
	if !s.queue.Close() {
		return nil
	}
	errs := []error{s.writer.close()}
	for range readers { // waits for running views
		errs = append(errs, (<-s.idle).close())
	}
	close(s.idle)
	return errors.Join(append(errs, s.db.Close())...)
}
