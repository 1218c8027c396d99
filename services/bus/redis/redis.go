// Package redis is the bus on one Redis (7.0 or later), which replicas share in
// production. Each atomic step is one command or one Lua script, and uses the
// server's clock, so that the replicas' clocks do not matter. Nothing is retried
// automatically, because a command whose answer was lost may have been executed:
// the caller gets bus.ErrUnavailable within about two seconds, and the next call
// works as soon as Redis is back.
package redis

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/openova-io/bp-relay/services/bus"
)

var _ bus.Bus = (*Bus)(nil)

// callTimeout bounds one call, dialing included.
const callTimeout = 2 * time.Second

// Config says which Redis to use.
type Config struct {
	// URL is redis://[user[:password]@]host[:port][/db], or rediss:// for TLS.
	URL string
	// Username and Password override those in URL if set.
	Username, Password string
	// Prefix is put before each key and channel; "relay:" if empty.
	Prefix string
	// Logger defaults to slog.Default().
	Logger *slog.Logger
}

// Bus is the live state that replicas share.
type Bus struct {
	client *goredis.Client
	prefix string
	hub    *hub
}

// New makes the client. It does not connect; Ping does.
func New(cfg Config) (*Bus, error) {
	opt, err := goredis.ParseURL(cfg.URL)
	if err != nil {
		// The error of ParseURL may show the password.
		return nil, errors.New("redis: URL must look like redis://127.0.0.1:6379/0")
	}
	if cfg.Username != "" {
		opt.Username = cfg.Username
	}
	if cfg.Password != "" {
		opt.Password = cfg.Password
	}
	if cfg.Prefix == "" {
		cfg.Prefix = "relay:"
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	opt.DialTimeout = callTimeout / 2
	opt.DialerRetries = 1
	opt.ReadTimeout = callTimeout
	opt.WriteTimeout = callTimeout
	opt.PoolTimeout = callTimeout
	opt.ContextTimeoutEnabled = true
	opt.MaxRetries = -1
	opt.DisableIdentity = true
	opt.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	client := goredis.NewClient(opt)
	return &Bus{
		client: client,
		prefix: cfg.Prefix,
		hub:    newHub(client, cfg.Prefix+"topic:", cfg.Logger.With("component", "bus", "redis", opt.Addr)),
	}, nil
}

// call bounds a call to callTimeout and types its error.
func call[T any](ctx context.Context, op string, do func(context.Context) (T, error)) (T, error) {
	cctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	v, err := do(cctx)
	return v, typed(ctx, op, err)
}

// typed wraps an error as the caller's (ctx), bus.ErrClosed or
// bus.ErrUnavailable. goredis.Nil is returned as it is.
func typed(ctx context.Context, op string, err error) error {
	switch {
	case err == nil, errors.Is(err, goredis.Nil):
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", op, context.Cause(ctx))
	case errors.Is(err, goredis.ErrClosed):
		return fmt.Errorf("%s: %w", op, bus.ErrClosed)
	}
	return fmt.Errorf("%s: %w: %w", op, bus.ErrUnavailable, err)
}

// Refused reports whether an error is an answer of Redis that another try does not
// change, such as to a wrong password. Redis that loads its data answers LOADING.
func Refused(err error) bool {
	answer, is := errors.AsType[goredis.Error](err)
	return is && !goredis.HasErrorPrefix(answer, "LOADING") && !goredis.HasErrorPrefix(answer, "MASTERDOWN")
}

// millis is d in whole milliseconds, rounded up, as Redis takes an expiry.
func millis(d time.Duration) int64 {
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}

// Publish implements bus.Bus.
func (b *Bus) Publish(ctx context.Context, topic string, payload []byte) error {
	if topic == "" {
		return fmt.Errorf("publish: %w", bus.ErrInvalid)
	}
	_, err := call(ctx, "publish", func(ctx context.Context) (int64, error) {
		return b.client.Publish(ctx, b.hub.prefix+topic, payload).Result()
	})
	return err
}

// Subscribe implements bus.Bus. All subscriptions of a process share one
// connection, which is re-established when it breaks; messages published in
// between are not delivered.
func (b *Bus) Subscribe(ctx context.Context, topic string) (<-chan []byte, error) {
	if topic == "" {
		return nil, fmt.Errorf("subscribe: %w", bus.ErrInvalid)
	}
	return b.hub.subscribe(ctx, topic)
}

// Shared implements bus.Bus: every replica sees this bus.
func (b *Bus) Shared() bool { return true }

// Ping implements bus.Bus.
func (b *Bus) Ping(ctx context.Context) error {
	_, err := call(ctx, "ping", func(ctx context.Context) (string, error) { return b.client.Ping(ctx).Result() })
	return err
}

// Close implements bus.Bus. It closes all subscriptions and connections.
func (b *Bus) Close() error {
	err := b.hub.close()
	if cerr := b.client.Close(); !errors.Is(cerr, goredis.ErrClosed) {
		err = errors.Join(err, cerr)
	}
	return err
}
