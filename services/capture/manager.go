package capture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sync/errgroup"

	"github.com/openova-io/bp-relay/services/blob"
	"github.com/openova-io/bp-relay/services/internal/keyring"
	"github.com/openova-io/bp-relay/services/internal/replica"
	"github.com/openova-io/bp-relay/services/internal/task"
	"github.com/openova-io/bp-relay/services/records"
)

// The bounds of a segment.
const (
	// maxCipher is the most ciphertext in a segment, in bytes: one chunk of
	// SeaweedFS's filer.
	maxCipher = 4 << 20
	// MaxAppend is the most plaintext in a segment, and so in one Append, in
	// bytes. The rest is for age: a header of less than 2.5 KiB, a nonce of 16
	// bytes, and 16 bytes for each of the 64 chunks.
	MaxAppend = maxCipher - 8<<10
	// maxFile bounds a spool file that has many small frames, in bytes.
	maxFile = maxCipher + 1<<20
	// maxItems bounds the marks and gaps in one segment's record.
	maxItems = 1024
	// maxManifestPart is the most of a manifest in one object, in bytes.
	maxManifestPart = 8 << 20
	// maxAge is how long a segment stays open.
	maxAge = 4 * time.Second
)

// Intervals and timeouts of the background work.
const (
	// syncEvery is how often the spool is flushed. It leaves about half a second
	// for the flush, so that bytes are durable within one second.
	syncEvery = 400 * time.Millisecond
	// headEvery is how often a head is written. It leaves two seconds for the
	// commit of the leaf, so that heads are at most ten seconds apart.
	headEvery = 8 * time.Second
	// objectTimeout bounds one PUT or one read-back.
	objectTimeout = time.Minute
	// maxBackoff is the longest time between two attempts.
	maxBackoff = 15 * time.Second
)

// Config is what a Manager needs.
type Config struct {
	// Dir is the spool's folder, created with mode 0700 if missing. One process
	// owns it at a time. Its disk must keep what is flushed.
	Dir     string
	Records records.DB
	Blob    blob.Store
	Keys    *keyring.Keyring
	// Logger is for the background work; nil is slog.Default.
	Logger *slog.Logger
	// MaxSpool bounds the bytes in Dir; 0 is 10 GiB. Encryption may exceed it by
	// 4 MiB per worker.
	MaxSpool int64
	// Quota divides MaxSpool among organisations.
	Quota Quota
	// Workers is how many segments are encrypted and uploaded at a time; 0 is 4.
	// Each needs up to 9 MiB of memory.
	Workers int
	// Heartbeat is how often this process tells the others that it lives; 2 s if 0.
	Heartbeat time.Duration

	// hook is called at named points; if it returns an error, the work stops
	// there, as at a crash. Tests set it.
	hook func(point string) error
	// maxObject is the most of a manifest in one object; 0 is maxManifestPart.
	maxObject int
}

// Manager owns the spool and stores what is in it. It is safe for concurrent
// use.
type Manager struct {
	cfg     Config
	log     *slog.Logger
	lock    *flock.Flock
	metrics *metrics
	// replica is this process among those that share the records.
	replica *replica.Replica
	// quota counts the bytes in the spool.
	quota *quota
	// workers have the buffers: whoever has one may work.
	workers *workers
	// ready is closed when recovery is complete.
	ready chan struct{}
	// done is closed when the manager stops.
	done chan struct{}

	// tasks are the uploaders and sealers. They start when Run is called, and
	// Run waits for them.
	tasks *task.Group

	mu       sync.Mutex // guards what follows, and done against claim
	captures map[string]*Capture
	running  bool
	// left are the folders of an earlier process that are not recovered, each with
	// the error of the last attempt.
	left map[string]error
	// found is what the quota counts for the folders of an earlier process that
	// have no capture in this one.
	found map[string]holding
}

// New locks the spool. It fails if another process has locked it. Nothing is
// stored before Run is called.
func New(cfg Config) (*Manager, error) {
	if cfg.Dir == "" || cfg.Records == nil || cfg.Blob == nil || cfg.Keys == nil {
		return nil, fmt.Errorf("%w: Dir, Records, Blob and Keys must be set", ErrInvalid)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.MaxSpool == 0 {
		cfg.MaxSpool = 10 << 30
	}
	if cfg.Workers == 0 {
		cfg.Workers = 4
	}
	if cfg.maxObject == 0 {
		cfg.maxObject = maxManifestPart
	}
	if cfg.hook == nil {
		cfg.hook = func(string) error { return nil }
	}
	quota, err := newQuota(cfg.MaxSpool, cfg.Quota)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make spool: %w", err)
	}
	if err := os.Chmod(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("set mode of spool: %w", err)
	}
	lock := flock.New(filepath.Join(cfg.Dir, "lock"), flock.SetPermissions(0o600))
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock spool: %w", err)
	}
	if !ok {
		return nil, fmt.Errorf("spool %s is in use by another process: stop it, or configure another folder", cfg.Dir)
	}
	m := &Manager{
		cfg: cfg, log: cfg.Logger, lock: lock, quota: quota, captures: make(map[string]*Capture),
		workers: newWorkers(cfg.Workers), ready: make(chan struct{}), done: make(chan struct{}), tasks: task.NewHeld(),
	}
	// Before any capture is opened: its folder would look like one that an
	// earlier process left.
	folders, err := spoolFolders(cfg.Dir)
	if err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	m.left = make(map[string]error, len(folders))
	m.found = make(map[string]holding, len(folders))
	for _, dir := range folders {
		m.left[dir] = nil
		m.recount(dir)
	}
	m.replica = replica.New(replica.Config{Records: cfg.Records, Every: cfg.Heartbeat, Logger: cfg.Logger})
	m.metrics = newMetrics(m.quota)
	return m, nil
}

// Run recovers what an earlier process left, and flushes, uploads and seals
// until ctx ends. It then flushes once more and unlocks the spool; the Manager
// cannot be used afterwards. The next process stores what is left in the spool.
func (m *Manager) Run(ctx context.Context) error {
	m.mu.Lock()
	again := m.running
	m.running = true
	m.mu.Unlock()
	if again {
		return errors.New("capture: Run was called before")
	}
	m.tasks.Release()

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return m.flushForever(ctx) })
	g.Go(func() error { return every(ctx, headTick, m.heads) })
	g.Go(func() error { return m.recover(ctx) })
	g.Go(func() error { return m.replica.Run(ctx) })
	err := g.Wait()
	return errors.Join(err, m.stop())
}

// Replica is this process among those that share the records. What it owns,
// captures first of all, names it.
func (m *Manager) Replica() *replica.Replica { return m.replica }

// every calls fn every d until ctx ends, one call at a time.
func every(ctx context.Context, d time.Duration, fn func(context.Context)) error {
	t := time.NewTicker(d)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			fn(ctx)
		}
	}
}

// stop closes all captures, ends the tasks, waits for them, and flushes.
func (m *Manager) stop() error {
	m.mu.Lock()
	close(m.done)
	all := m.all()
	m.mu.Unlock()
	for _, c := range all {
		c.close()
	}
	m.tasks.Stop()
	var errs []error
	for _, c := range all {
		for _, s := range c.Streams() {
			errs = append(errs, s.flush())
		}
	}
	if err := m.lock.Unlock(); err != nil {
		errs = append(errs, fmt.Errorf("unlock spool: %w", err))
	}
	return errors.Join(errs...)
}

// all returns the captures of this process; the caller holds m.mu.
func (m *Manager) all() []*Capture {
	all := make([]*Capture, 0, len(m.captures))
	for _, c := range m.captures {
		all = append(all, c)
	}
	return all
}

func (m *Manager) snapshot() []*Capture {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.all()
}

// waitReady waits until recovery is complete.
func (m *Manager) waitReady(ctx context.Context) error {
	select {
	case <-m.ready:
		return nil
	case <-m.done:
		return fmt.Errorf("%w: the manager has stopped", ErrClosed)
	case <-ctx.Done():
		return fmt.Errorf("capture: wait for recovery: %w", ctx.Err())
	}
}
