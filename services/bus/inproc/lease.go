package inproc

import (
	"context"
	"fmt"
	"time"

	"github.com/openova-io/bp-relay/services/bus"
)

// Acquire implements bus.Bus. A token is the time in microseconds since 1970, or
// one more than the token before if that is greater. Tokens therefore also grow
// over a restart, which takes longer than a microsecond, unless the clock is set
// back by more than the process was down.
func (b *Bus) Acquire(ctx context.Context, name string, ttl time.Duration) (bus.Lease, error) {
	if name == "" || ttl <= 0 {
		return nil, fmt.Errorf("acquire %q: %w", name, bus.ErrInvalid)
	}
	now := time.Now()
	if err := b.enter(ctx, now); err != nil {
		return nil, err
	}
	defer b.mu.Unlock()
	if h, ok := b.leases[name]; ok && now.Before(h.until) {
		return nil, fmt.Errorf("acquire %q: %w", name, bus.ErrHeld)
	}
	b.token = max(b.token+1, now.UnixMicro())
	b.leases[name] = held{b.token, now.Add(ttl)}
	return &lease{b: b, name: name, token: b.token}, nil
}

type lease struct {
	b     *Bus
	name  string
	token int64
}

// Token implements bus.Lease.
func (l *lease) Token() int64 { return l.token }

// Renew implements bus.Lease.
func (l *lease) Renew(ctx context.Context, ttl time.Duration) error {
	if ttl <= 0 {
		return fmt.Errorf("renew %q: %w", l.name, bus.ErrInvalid)
	}
	now := time.Now()
	if err := l.b.enter(ctx, now); err != nil {
		return err
	}
	defer l.b.mu.Unlock()
	if h, ok := l.b.leases[l.name]; !ok || h.token != l.token || !now.Before(h.until) {
		return fmt.Errorf("renew %q: %w", l.name, bus.ErrLost)
	}
	l.b.leases[l.name] = held{l.token, now.Add(ttl)}
	return nil
}

// Release implements bus.Lease.
func (l *lease) Release(ctx context.Context) error {
	if err := l.b.enter(ctx, time.Now()); err != nil {
		return err
	}
	defer l.b.mu.Unlock()
	if l.b.leases[l.name].token == l.token {
		delete(l.b.leases, l.name)
	}
	return nil
}
