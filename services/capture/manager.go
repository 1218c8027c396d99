package capture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sync/errgroup"

	"github.com/openova-io/bp-relay/services/blob"
	"github.com/openova-io/bp-relay/services/internal/keyring"
	"github.com/openova-io/bp-relay/services/store"
)

// The bounds of a segment.
const (
	// maxCipher is the bound that matters: one chunk of SeaweedFS's filer.
	maxCipher = 4 << 20
	// MaxAppend is the most plaintext in a segment, and so in one Append. The
	// rest is for age: a header under 2.5 KiB, a nonce of 16 bytes, and 16
	// bytes for each of the 64 chunks.
	MaxAppend = maxCipher - 8<<10
	// maxFile bounds the spool file of a segment of many small frames.
	maxFile = maxCipher + 1<<20
	// maxItems bounds the marks and gaps in one segment's record.
	maxItems = 1024
	// maxManifestPart is the most of a manifest in one object.
	maxManifestPart = 8 << 20
	// maxAge is how long a segment stays open.
	maxAge = 4 * time.Second
)

// The times of the background work.
const (
	// syncEvery leaves half a second for the flush itself to be within one.
	syncEvery = 400 * time.Millisecond
	// headEvery leaves two seconds for the leaf's commit to be within ten.
	headEvery = 8 * time.Second
	// objectTimeout bounds one PUT or one read-back.
	objectTimeout = time.Minute
	// maxBackoff is the longest pause between two attempts.
	maxBackoff = 15 * time.Second
)

// Config is what a Manager needs.
type Config struct {
	// Dir is the spool, made with mode 0700 where it is missing. One process
	// owns it at a time. Its disk decides what a crash can lose.
	Dir   string
	Store store.Store
	Blob  blob.Store
	Keys  *keyring.Keyring
	// Logger gets what happens behind Append; slog.Default where nil.
	Logger *slog.Logger
	// MaxSpool bounds the bytes in Dir; 10 GiB where 0. What is being encrypted
	// counts twice for a moment: 4 MiB per worker may come on top.
	MaxSpool int64
	// Workers is how many segments are encrypted and uploaded at a time; 4
	// where 0. Each needs up to 9 MiB of memory.
	Workers int

	// hook is called at named points; an error stops there, as a crash would.
	// Tests set it.
	hook func(point string) error
	// maxObject is the most of a manifest in one object; maxManifestPart where 0.
	maxObject int
}

// Manager owns the spool and brings what is in it to the store.
type Manager struct {
	cfg     Config
	log     *slog.Logger
	lock    *flock.Flock
	metrics *metrics
	// used is the bytes in the spool.
	used atomic.Int64
	// scratch holds the workers' buffers: having one is the right to work.
	scratch chan *scratch
	// left is the folders of an earlier process.
	left []string
	// ready is closed when recovery is through.
	ready chan struct{}
	// done is closed when the manager stops.
	done chan struct{}

	mu       sync.Mutex
	captures map[string]*Capture
	// start begins a task under Run; nil before. tasks are what Run waits for.
	start   func(task func(context.Context))
	waiting []func(context.Context)
	tasks   sync.WaitGroup
	stopped bool
}

// New takes the spool. It fails where another process has it. Run must be
// called for anything to leave it.
func New(cfg Config) (*Manager, error) {
	if cfg.Dir == "" || cfg.Store == nil || cfg.Blob == nil || cfg.Keys == nil {
		return nil, fmt.Errorf("%w: Dir, Store, Blob and Keys must be set", ErrInvalid)
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
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make spool: %w", err)
	}
	if err := os.Chmod(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("close spool to others: %w", err)
	}
	lock := flock.New(filepath.Join(cfg.Dir, "lock"), flock.SetPermissions(0o600))
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock spool: %w", err)
	}
	if !ok {
		return nil, fmt.Errorf("spool %s is in use by another process: stop it or give this one its own folder", cfg.Dir)
	}
	m := &Manager{
		cfg: cfg, log: cfg.Logger, lock: lock, captures: make(map[string]*Capture),
		scratch: make(chan *scratch, cfg.Workers), ready: make(chan struct{}), done: make(chan struct{}),
	}
	for range cfg.Workers {
		m.scratch <- new(scratch)
	}
	// Now: once captures are opened their folders look like an earlier
	// process's that died there.
	if m.left, err = spoolFolders(cfg.Dir); err != nil {
		return nil, errors.Join(err, lock.Unlock())
	}
	m.metrics = newMetrics(func() float64 { return float64(m.used.Load()) }, func() float64 { return float64(cfg.MaxSpool) })
	return m, nil
}

// Run recovers what an earlier process left and then flushes, uploads and
// seals until ctx ends. It flushes once more at its end and gives the spool
// back: the Manager cannot be used after. What is not stored by then is left
// for the next process.
func (m *Manager) Run(ctx context.Context) error {
	m.mu.Lock()
	if m.start != nil {
		m.mu.Unlock()
		return errors.New("capture: Run was called before")
	}
	run := ctx
	m.start = func(task func(context.Context)) { m.tasks.Go(func() { task(run) }) }
	for _, fn := range m.waiting {
		m.start(fn)
	}
	m.waiting = nil
	m.mu.Unlock()

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return every(ctx, syncEvery, m.flush) })
	g.Go(func() error { return every(ctx, time.Second, m.heads) })
	g.Go(func() error { return m.recover(ctx) })
	err := g.Wait()
	return errors.Join(err, m.stop())
}

// every calls fn until ctx ends. A slow fn is not called twice at a time.
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

// stop ends all streams, waits for the tasks and flushes.
func (m *Manager) stop() error {
	m.mu.Lock()
	m.stopped = true
	close(m.done)
	all := m.all()
	m.mu.Unlock()
	for _, c := range all {
		c.close()
	}
	m.tasks.Wait()
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

// spawn starts fn under Run: at once, or when Run is called. It is a no-op
// once the manager has stopped.
func (m *Manager) spawn(fn func(context.Context)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.stopped:
	case m.start == nil:
		m.waiting = append(m.waiting, fn)
	default:
		m.start(fn)
	}
}

// flush is the durability point: every file that was written to is synced. It
// also cuts segments that are old enough.
func (m *Manager) flush(context.Context) {
	var g errgroup.Group
	g.SetLimit(8) // one commit of the journal serves those that wait together
	now := time.Now()
	for _, c := range m.snapshot() {
		for _, s := range c.Streams() {
			s.cutOld(now)
			g.Go(func() error {
				if err := s.flush(); err != nil {
					s.c.diskFailed(s, err)
				}
				return nil
			})
		}
	}
	_ = g.Wait() // each has dealt with its error
}

// reserve takes n bytes of the spool's bound.
func (m *Manager) reserve(n int64) error {
	if used := m.used.Add(n); used > m.cfg.MaxSpool {
		m.used.Add(-n)
		return fmt.Errorf("%w: %d of %d bytes", ErrSpoolFull, used-n, m.cfg.MaxSpool)
	}
	return nil
}

// waitReady waits until recovery is through.
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
