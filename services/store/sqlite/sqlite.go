// Package sqlite keeps the records in one SQLite file: the embedded default.
// It uses modernc.org/sqlite (no cgo), a write-ahead log, synchronous=FULL
// (a commit is fsynced before it is answered), one writer connection whose
// commits are grouped, and a few reader connections with snapshots of their
// own. Several processes may open the same file; they wait for each other's
// commits.
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

	"github.com/openova-io/bp-relay/services/store"
	"github.com/openova-io/bp-relay/services/store/internal/group"
	"github.com/openova-io/bp-relay/services/store/internal/rows"

	_ "modernc.org/sqlite" // the driver
)

const (
	readers     = 4
	busyTimeout = 10 * time.Second
)

// Config says where the records are.
type Config struct {
	// Path of the file; it is created with mode 0600, its folder with 0700.
	Path string
	// Logger; nil means slog.Default().
	Logger *slog.Logger
	// Now is the clock of create and update times and of the 24 h for which
	// answers are remembered; nil means time.Now.
	Now func() time.Time
}

// Store implements store.Store.
type Store struct {
	db     *sql.DB
	now    func() time.Time
	log    *slog.Logger
	writer *conn
	idle   chan *conn // readers
	queue  *group.Queue[lent]

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

// Open opens the file, makes it where it is not there, and brings its schema
// up to date. The store must be closed.
func Open(ctx context.Context, cfg Config) (_ *Store, err error) {
	if cfg.Path == "" {
		return nil, errors.New("store/sqlite: no path")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("store/sqlite: %w", err)
	}
	if err := create(path); err != nil {
		return nil, fmt.Errorf("store/sqlite: %w", err)
	}
	db, err := sql.Open("sqlite", dsn(path))
	if err != nil {
		return nil, fmt.Errorf("store/sqlite: open %s: %w", path, err)
	}
	db.SetMaxOpenConns(readers + 1)
	db.SetMaxIdleConns(readers + 1)
	s := &Store{db: db, now: cfg.Now, log: cfg.Logger, idle: make(chan *conn, readers)}
	defer func() {
		if err != nil {
			err = errors.Join(err, db.Close())
		}
	}()
	if err := migrate(ctx, db, path); err != nil {
		return nil, fmt.Errorf("store/sqlite: migrate %s: %w", path, err)
	}
	if s.writer, err = dial(ctx, db); err != nil {
		return nil, fmt.Errorf("store/sqlite: %w", err)
	}
	for range readers {
		c, err := dial(ctx, db)
		if err != nil {
			return nil, fmt.Errorf("store/sqlite: %w", err)
		}
		s.idle <- c
	}
	s.queue = group.New(1, s.lead)
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.janitor.Go(func() { rows.Janitor(run, engine{s}, s.now, s.log) })
	return s, nil
}

// create makes the folder and the file before SQLite does, because SQLite
// would use the process's umask; its -wal and -shm files get the file's mode.
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
	// The names are made durable too, the folder's and the file's.
	folder := filepath.Dir(path)
	return errors.Join(syncFolder(filepath.Dir(folder)), syncFolder(folder))
}

func syncFolder(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrPermission) {
		return nil // a parent that is not ours: its entries are not new
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Update implements store.Store.
func (s *Store) Update(ctx context.Context, fn func(tx store.Tx) error) error {
	return s.queue.Do(ctx, func(l lent) error { return fn(l.tx) })
}

// Write runs fn in a group, with the bare statements.
func (s engine) Write(ctx context.Context, fn func(db rows.DB) error) error {
	return s.queue.Do(ctx, func(l lent) error { return fn(l.db) })
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
	var c *conn
	select {
	case got, open := <-s.idle:
		if !open {
			return store.ErrClosed
		}
		c = got
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { s.idle <- c }()
	if _, err := c.exec(ctx, "BEGIN"); err != nil {
		return fmt.Errorf("store/sqlite: begin: %w", err)
	}
	defer func() {
		if _, err := c.exec(context.WithoutCancel(ctx), "ROLLBACK"); err != nil {
			s.log.Error("store/sqlite: end of a snapshot", "error", err)
		}
	}()
	return fn(view{conn: c})
}

// Log implements store.Store.
func (s *Store) Log() store.Log { return rows.NewLog(engine{s}) }

// Ping implements store.Store.
func (s *Store) Ping(ctx context.Context) error {
	return engine{s}.Read(ctx, func(db rows.DB) error {
		return db.Query(ctx, func(rows.Row) error { return nil }, "SELECT size FROM log_state")
	})
}

// Close implements store.Store.
func (s *Store) Close() error {
	s.stop()
	s.janitor.Wait()
	if !s.queue.Close() {
		return nil
	}
	errs := []error{s.writer.close()}
	for range readers { // waits for the views under way
		errs = append(errs, (<-s.idle).close())
	}
	close(s.idle)
	return errors.Join(append(errs, s.db.Close())...)
}
