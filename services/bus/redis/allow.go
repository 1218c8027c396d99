package redis

import (
	"context"
	"fmt"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/openova-io/bp-relay/services/bus"
)

// allow(key; limit, window µs) is the generic cell rate algorithm (ITU-T I.371):
// the key holds the time (µs) at which the bucket is full again. It returns 0,
// or how many microseconds to wait.
var allow = goredis.NewScript(`
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000000 + tonumber(t[2])
local window = tonumber(ARGV[2])
local full = tonumber(redis.call('GET', KEYS[1]) or '0')
if full < now then full = now end
full = full + math.max(1, math.floor(window / tonumber(ARGV[1])))
local over = full - now - window
if over > 0 then return over end
redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000))
return 0
`)

// Allow implements bus.Bus, with a resolution of one microsecond: a limit above
// a million uses per second of one key is not enforced exactly.
func (b *Bus) Allow(ctx context.Context, key string, limit int, window time.Duration) (bool, time.Duration, error) {
	if key == "" || len(key) > bus.MaxKey || limit <= 0 || window <= 0 {
		return false, 0, fmt.Errorf("allow: %w", bus.ErrInvalid)
	}
	wait, err := call(ctx, "allow", func(ctx context.Context) (int64, error) {
		return allow.Run(ctx, b.client, []string{b.prefix + "uses:" + key}, limit, max(1, window.Microseconds())).Int64()
	})
	if err != nil {
		return false, 0, err
	}
	return wait == 0, time.Duration(wait) * time.Microsecond, nil
}
