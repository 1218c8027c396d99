package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/openova-io/bp-relay/services/bus"
)

// fenceFor is how long the last token of a name is kept after its last lease.
// Once it has expired or Redis has lost it, the clock alone makes the next token
// greater.
const fenceFor = 30 * 24 * time.Hour

// acquire(lease, fence; ttl ms, fence ttl ms) returns the token, or false if
// the lease is held. The lease's value is its token, which no two holders share. Microseconds since 1970 stay below 2^53 until the year 2255,
// so Lua's numbers hold them exactly; %.0f keeps them out of 1.8e+15.
var acquire = goredis.NewScript(`
if redis.call('EXISTS', KEYS[1]) == 1 then return false end
local t = redis.call('TIME')
local token = tonumber(t[1]) * 1000000 + tonumber(t[2])
local last = tonumber(redis.call('GET', KEYS[2]) or '0')
if token <= last then token = last + 1 end
token = string.format('%.0f', token)
redis.call('SET', KEYS[2], token, 'PX', ARGV[2])
redis.call('SET', KEYS[1], token, 'PX', ARGV[1])
return token
`)

// renew(lease; token, ttl ms) returns 1, or 0 if the token is not the lease's.
var renew = goredis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
`)

// release(lease; token) removes the lease if the token is the lease's.
var release = goredis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
`)

// Acquire implements bus.Bus. The token is the server's clock in microseconds,
// or one more than the last token if that is greater. If the answer is lost
// (bus.ErrUnavailable), the lease may be held until ttl has passed.
func (b *Bus) Acquire(ctx context.Context, name string, ttl time.Duration) (bus.Lease, error) {
	if name == "" || ttl <= 0 {
		return nil, fmt.Errorf("acquire %q: %w", name, bus.ErrInvalid)
	}
	l := &lease{b: b, name: name, key: b.prefix + "lease:{" + name + "}"}
	token, err := call(ctx, "acquire", func(ctx context.Context) (string, error) {
		return acquire.Run(ctx, b.client, []string{l.key, l.key + ":fence"}, millis(ttl), millis(fenceFor)).Text()
	})
	if errors.Is(err, goredis.Nil) {
		return nil, fmt.Errorf("acquire %q: %w", name, bus.ErrHeld)
	}
	if err != nil {
		return nil, err
	}
	if l.token, err = strconv.ParseInt(token, 10, 64); err != nil {
		return nil, fmt.Errorf("acquire %q: token: %w", name, err)
	}
	return l, nil
}

type lease struct {
	b         *Bus
	name, key string
	token     int64
}

// Token implements bus.Lease.
func (l *lease) Token() int64 { return l.token }

// Renew implements bus.Lease.
func (l *lease) Renew(ctx context.Context, ttl time.Duration) error {
	if ttl <= 0 {
		return fmt.Errorf("renew %q: %w", l.name, bus.ErrInvalid)
	}
	ok, err := call(ctx, "renew", func(ctx context.Context) (bool, error) {
		return renew.Run(ctx, l.b.client, []string{l.key}, l.token, millis(ttl)).Bool()
	})
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("renew %q: %w", l.name, bus.ErrLost)
	}
	return nil
}

// Release implements bus.Lease.
func (l *lease) Release(ctx context.Context) error {
	_, err := call(ctx, "release", func(ctx context.Context) (bool, error) {
		return release.Run(ctx, l.b.client, []string{l.key}, l.token).Bool()
	})
	return err
}
