// Package inproc is the bus of a single process: the embedded default, which
// needs no server. It passes the same conformance suite as the Redis bus and
// keeps its state for as long as the process lives. Expired entries are dropped
// when they are next touched, and once a minute by any call, so it needs no
// goroutine of its own.
package inproc

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/bus/internal/fanout"
)

var _ bus.Bus = (*Bus)(nil)

// sweepEvery is how often expired entries are dropped.
const sweepEvery = time.Minute

// Bus is the live state of one process.
type Bus struct {
	topics fanout.Topics

	mu       sync.Mutex
	closed   bool
	swept    time.Time
	token    int64 // the newest fencing token of any name
	leases   map[string]held
	tickets  map[string]entry
	presence map[string]map[string]entry
	uses     map[string]time.Time // GCRA: the theoretical arrival time by key
}

type held struct {
	token int64
	until time.Time
}

type entry struct {
	value []byte
	until time.Time
}

// New returns an empty bus.
func New() *Bus {
	return &Bus{
		swept:    time.Now(),
		leases:   map[string]held{},
		tickets:  map[string]entry{},
		presence: map[string]map[string]entry{},
		uses:     map[string]time.Time{},
	}
}

// enter locks the bus for one call and sweeps if it is time. Unless it returns
// an error, the caller unlocks.
func (b *Bus) enter(ctx context.Context, now time.Time) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return bus.ErrClosed
	}
	if now.Sub(b.swept) >= sweepEvery {
		b.swept = now
		b.sweep(now)
	}
	return nil
}

func (b *Bus) sweep(now time.Time) {
	for k, v := range b.leases {
		if !now.Before(v.until) {
			delete(b.leases, k)
		}
	}
	for k, v := range b.tickets {
		if !now.Before(v.until) {
			delete(b.tickets, k)
		}
	}
	for set := range b.presence {
		b.prune(set, now)
	}
	for k, full := range b.uses {
		if !now.Before(full) {
			delete(b.uses, k)
		}
	}
}

// PutTicket implements bus.Bus.
func (b *Bus) PutTicket(ctx context.Context, id string, value []byte, ttl time.Duration) error {
	if id == "" || ttl <= 0 {
		return fmt.Errorf("put ticket: %w", bus.ErrInvalid)
	}
	now := time.Now()
	if err := b.enter(ctx, now); err != nil {
		return err
	}
	defer b.mu.Unlock()
	if t, ok := b.tickets[id]; ok && now.Before(t.until) {
		return bus.ErrDuplicate
	}
	b.tickets[id] = entry{bytes.Clone(value), now.Add(ttl)}
	return nil
}

// TakeTicket implements bus.Bus.
func (b *Bus) TakeTicket(ctx context.Context, id string) ([]byte, error) {
	now := time.Now()
	if err := b.enter(ctx, now); err != nil {
		return nil, err
	}
	defer b.mu.Unlock()
	t, ok := b.tickets[id]
	delete(b.tickets, id)
	if !ok || !now.Before(t.until) {
		return nil, bus.ErrNoTicket
	}
	return t.value, nil
}

// SetPresence implements bus.Bus.
func (b *Bus) SetPresence(ctx context.Context, set, member string, value []byte, ttl time.Duration) error {
	if set == "" || member == "" || ttl <= 0 {
		return fmt.Errorf("set presence: %w", bus.ErrInvalid)
	}
	now := time.Now()
	if err := b.enter(ctx, now); err != nil {
		return err
	}
	defer b.mu.Unlock()
	if b.presence[set] == nil {
		b.presence[set] = map[string]entry{}
	}
	b.presence[set][member] = entry{bytes.Clone(value), now.Add(ttl)}
	return nil
}

// DropPresence implements bus.Bus.
func (b *Bus) DropPresence(ctx context.Context, set, member string) error {
	now := time.Now()
	if err := b.enter(ctx, now); err != nil {
		return err
	}
	defer b.mu.Unlock()
	delete(b.presence[set], member)
	b.prune(set, now)
	return nil
}

// Presence implements bus.Bus.
func (b *Bus) Presence(ctx context.Context, set string) (map[string][]byte, error) {
	now := time.Now()
	if err := b.enter(ctx, now); err != nil {
		return nil, err
	}
	defer b.mu.Unlock()
	b.prune(set, now)
	here := make(map[string][]byte, len(b.presence[set]))
	for m, e := range b.presence[set] {
		here[m] = bytes.Clone(e.value)
	}
	return here, nil
}

func (b *Bus) prune(set string, now time.Time) {
	for m, e := range b.presence[set] {
		if !now.Before(e.until) {
			delete(b.presence[set], m)
		}
	}
	if len(b.presence[set]) == 0 {
		delete(b.presence, set)
	}
}

// Allow implements bus.Bus by the generic cell rate algorithm (ITU-T I.371): for
// each key it keeps the time at which the bucket is full again.
func (b *Bus) Allow(ctx context.Context, key string, limit int, window time.Duration) (bool, time.Duration, error) {
	if key == "" || len(key) > bus.MaxKey || limit <= 0 || window <= 0 {
		return false, 0, fmt.Errorf("allow: %w", bus.ErrInvalid)
	}
	now := time.Now()
	if err := b.enter(ctx, now); err != nil {
		return false, 0, err
	}
	defer b.mu.Unlock()
	full := b.uses[key]
	if full.Before(now) {
		full = now
	}
	full = full.Add(window / time.Duration(limit))
	if over := full.Sub(now) - window; over > 0 {
		return false, over, nil
	}
	b.uses[key] = full
	return true, 0, nil
}

// Publish implements bus.Bus.
func (b *Bus) Publish(ctx context.Context, topic string, payload []byte) error {
	if topic == "" {
		return fmt.Errorf("publish: %w", bus.ErrInvalid)
	}
	if err := b.enter(ctx, time.Now()); err != nil {
		return err
	}
	defer b.mu.Unlock()
	b.topics.Deliver(topic, payload) // under the lock, so that all readers see the same order
	return nil
}

// Subscribe implements bus.Bus.
func (b *Bus) Subscribe(ctx context.Context, topic string) (<-chan []byte, error) {
	if topic == "" {
		return nil, fmt.Errorf("subscribe: %w", bus.ErrInvalid)
	}
	if err := b.enter(ctx, time.Now()); err != nil {
		return nil, err
	}
	defer b.mu.Unlock()
	sub, err := b.topics.Add(topic)
	if err != nil {
		return nil, err
	}
	b.topics.Until(ctx, sub, func(bool) {})
	return sub.C(), nil
}

// Shared implements bus.Bus: no other process sees this bus.
func (b *Bus) Shared() bool { return false }

// Ping implements bus.Bus.
func (b *Bus) Ping(ctx context.Context) error {
	if err := b.enter(ctx, time.Now()); err != nil {
		return err
	}
	b.mu.Unlock()
	return nil
}

// Close implements bus.Bus. It closes all subscriptions and waits for those
// that are being closed.
func (b *Bus) Close() error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.topics.Close()
	return nil
}
