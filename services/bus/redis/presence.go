package redis

import (
	"context"
	"fmt"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/openova-io/bp-relay/services/bus"
)

// A set is two keys: a sorted set of members by their expiry time (ms), and a
// hash of their values. Redis 7.0 has no expiry per hash field (HPEXPIRE came
// with 7.4), so each script first removes expired members, and the keys
// themselves expire with the last member.

const prune = `
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
for _, m in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
  redis.call('ZREM', KEYS[1], m)
  redis.call('HDEL', KEYS[2], m)
end
`

// setPresence(until, values; member, value, ttl ms)
var setPresence = goredis.NewScript(prune + `
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
redis.call('PEXPIREAT', KEYS[1], last)
redis.call('PEXPIREAT', KEYS[2], last)
return 1
`)

// dropPresence(until, values; member)
var dropPresence = goredis.NewScript(prune + `
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
return 1
`)

// presence(until, values) returns member, value, member, value, ...
var presence = goredis.NewScript(prune + `
return redis.call('HGETALL', KEYS[2])
`)

func (b *Bus) presenceKeys(set string) []string {
	key := b.prefix + "presence:{" + set + "}"
	return []string{key + ":until", key + ":values"}
}

// SetPresence implements bus.Bus.
func (b *Bus) SetPresence(ctx context.Context, set, member string, value []byte, ttl time.Duration) error {
	if set == "" || member == "" || ttl <= 0 {
		return fmt.Errorf("set presence: %w", bus.ErrInvalid)
	}
	_, err := call(ctx, "set presence", func(ctx context.Context) (int, error) {
		return setPresence.Run(ctx, b.client, b.presenceKeys(set), member, value, millis(ttl)).Int()
	})
	return err
}

// DropPresence implements bus.Bus.
func (b *Bus) DropPresence(ctx context.Context, set, member string) error {
	_, err := call(ctx, "drop presence", func(ctx context.Context) (int, error) {
		return dropPresence.Run(ctx, b.client, b.presenceKeys(set), member).Int()
	})
	return err
}

// Presence implements bus.Bus.
func (b *Bus) Presence(ctx context.Context, set string) (map[string][]byte, error) {
	pairs, err := call(ctx, "presence", func(ctx context.Context) ([]string, error) {
		return presence.Run(ctx, b.client, b.presenceKeys(set)).StringSlice()
	})
	if err != nil {
		return nil, err
	}
	here := make(map[string][]byte, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		here[pairs[i]] = []byte(pairs[i+1])
	}
	return here, nil
}
