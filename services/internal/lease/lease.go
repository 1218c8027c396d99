// Package lease keeps a lease of the bus: it acquires it, renews it until it
// is lost or released, and tells the holder. The holder decides what a loss
// means; what it writes meanwhile is guarded by the fencing token.
package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/openova-io/bp-relay/services/bus"
)

// releaseTimeout bounds Release: a lease that is not released expires.
const releaseTimeout = 2 * time.Second

// Config says which lease is kept and how. Bus, Name and TTL are required.
type Config struct {
	Bus  bus.Bus
	Name string
	// TTL is how long the lease outlives its last renewal.
	TTL time.Duration
	// Every is how often Keep renews it; 0 means TTL/3.
	Every time.Duration
	// Regain is for a holder that goes on without the lease as long as nobody
	// else has it: a lease that expired is acquired again, with a new token, and
	// counts as lost only once another holder has it. Without Regain it also
	// counts as lost when the bus has not answered for TTL.
	Regain bool
	// Logger is told, at most once per TTL, that the bus has answered no renewal
	// for TTL while the holder goes on. It may be nil.
	Logger *slog.Logger
}

// Lease is held, or waits until it is free. It is safe for concurrent use.
type Lease struct {
	cfg Config

	mu     sync.Mutex
	held   bus.Lease // nil while it is not held
	had    bool      // it was held once
	good   time.Time // when it was renewed last
	silent time.Time // since when the bus has not answered, or when that was logged last
}

// New returns a lease that is not held yet: Keep acquires it once it is free.
func New(cfg Config) *Lease {
	if cfg.Every == 0 {
		cfg.Every = cfg.TTL / 3
	}
	return &Lease{cfg: cfg, silent: time.Now()}
}

// Acquire returns a lease that is held. Its errors are those of bus.Acquire:
// bus.ErrHeld if another holder has it.
func Acquire(ctx context.Context, cfg Config) (*Lease, error) {
	l := New(cfg)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l, l.acquire(ctx)
}

func (l *Lease) acquire(ctx context.Context) error {
	held, err := l.cfg.Bus.Acquire(ctx, l.cfg.Name, l.cfg.TTL)
	if err != nil {
		return err
	}
	now := time.Now()
	l.held, l.had, l.good, l.silent = held, true, now, now
	return nil
}

// Token is the fencing token of the lease as it is held now; 0 if it is not.
func (l *Lease) Token() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		return 0
	}
	return l.held.Token()
}

// Keep renews the lease until ctx ends, and returns nil then. It returns an
// error as soon as the lease is lost. It may be called again after a loss.
func (l *Lease) Keep(ctx context.Context) error {
	t := time.NewTicker(l.cfg.Every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		if err := l.Renew(ctx); err != nil {
			return err
		}
	}
}

// Renew extends the lease by its TTL now. It returns an error only if the
// lease is lost: a bus that does not answer, or a ctx that has ended, says
// nothing about the lease.
func (l *Lease) Renew(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held != nil {
		err := l.held.Renew(ctx, l.cfg.TTL)
		switch {
		case err == nil:
			l.good = time.Now()
			l.silent = l.good
			return nil
		case errors.Is(err, bus.ErrLost):
			l.held = nil
			if !l.cfg.Regain {
				return fmt.Errorf("renew lease: %w", err)
			}
		case l.cfg.Regain || ctx.Err() != nil || time.Since(l.good) <= l.cfg.TTL:
			l.warn(ctx, err)
			return nil
		default:
			return fmt.Errorf("renew lease: %w", err)
		}
	}
	if l.had && !l.cfg.Regain {
		return fmt.Errorf("renew lease: %w", bus.ErrLost)
	}
	had := l.had
	err := l.acquire(ctx)
	switch {
	case !errors.Is(err, bus.ErrHeld):
		l.warn(ctx, err)
	case had:
		return fmt.Errorf("regain lease: %w", err)
	default:
		l.silent = time.Now() // it has answered
	}
	return nil
}

// warn logs that the bus refuses, once it has done so for TTL.
func (l *Lease) warn(ctx context.Context, err error) {
	if err == nil || l.cfg.Logger == nil || ctx.Err() != nil || time.Since(l.silent) < l.cfg.TTL {
		return
	}
	l.silent = time.Now()
	l.cfg.Logger.WarnContext(ctx, "the bus does not renew a lease; trying again", "lease", l.cfg.Name, "error", err)
}

// Hold runs fn and keeps the lease until fn returns. fn's context ends with
// ctx and when the lease is lost; Hold waits for fn, and returns its error, or
// the loss if there was one.
func (l *Lease) Hold(ctx context.Context, fn func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var lost error
	var kept sync.WaitGroup
	kept.Go(func() {
		defer cancel()
		lost = l.Keep(ctx)
	})
	err := fn(ctx)
	cancel()
	kept.Wait()
	if lost != nil {
		return lost
	}
	return err
}

// Release gives the lease up, also if ctx has ended; it waits at most 2 s. A
// lease whose release failed expires after its TTL.
func (l *Lease) Release(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	err := l.held.Release(ctx)
	l.held = nil
	return err
}
