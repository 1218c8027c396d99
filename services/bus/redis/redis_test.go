package redis_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/bus/bustest"
	busredis "github.com/openova-io/bp-relay/services/bus/redis"
)

func TestMain(m *testing.M) {
	busredis.LogTo(slog.Default())
	goleak.VerifyTestMain(m)
}

func TestConformance(t *testing.T) {
	s := startServer(t)
	for _, c := range bustest.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			c.Run(t, func() bus.Bus { return s.open(t) })
		})
	}
}

func TestConfig(t *testing.T) {
	_, err := busredis.New(busredis.Config{URL: "http://user:hunter2@127.0.0.1"})
	require.Error(t, err)
	require.NotContains(t, err.Error(), "hunter2")
	b, err := busredis.New(busredis.Config{URL: "redis://:wrong@" + "127.0.0.1:1"})
	require.NoError(t, err)
	require.True(t, b.Shared())
	require.ErrorIs(t, b.Ping(t.Context()), bus.ErrUnavailable, "nobody listens there")
	require.NoError(t, b.Close())
}

func TestWrongPassword(t *testing.T) {
	s := startServer(t)
	b, err := busredis.New(busredis.Config{URL: s.url(), Password: "wrong"})
	require.NoError(t, err)
	defer b.Close()
	err = b.Ping(t.Context())
	require.ErrorIs(t, err, bus.ErrUnavailable)
	require.ErrorContains(t, err, "WRONGPASS", "the operator must see why")
}

// If Redis loses its memory, a holder must notice and the next token must still
// be greater.
func TestMemoryLost(t *testing.T) {
	s := startServer(t)
	b, ctx := s.open(t), t.Context()
	var last int64
	for range 5 {
		l, err := b.Acquire(ctx, "sequencer", time.Minute)
		require.NoError(t, err)
		require.Greater(t, l.Token(), last)
		last = l.Token()
		require.NoError(t, s.client(t).FlushAll(ctx).Err())
		require.ErrorIs(t, l.Renew(ctx, time.Minute), bus.ErrLost)
		require.NoError(t, l.Release(ctx))
	}
}

// A clock that was set back must not make tokens equal or smaller while Redis
// remembers.
func TestClockSetBack(t *testing.T) {
	s := startServer(t)
	b, ctx := s.open(t), t.Context()
	future := time.Now().Add(time.Hour).UnixMicro()
	require.NoError(t, s.client(t).Set(ctx, "relay:lease:{sequencer}:fence", future, 0).Err())
	for i := range int64(3) {
		l, err := b.Acquire(ctx, "sequencer", time.Minute)
		require.NoError(t, err)
		require.Equal(t, future+1+i, l.Token())
		require.NoError(t, l.Release(ctx))
	}
}

// A reader of Redis learns neither a ticket's id nor its value.
func TestTicketsAreSecret(t *testing.T) {
	s := startServer(t)
	b, c, ctx := s.open(t), s.client(t), t.Context()
	const id, value = "0123456789abcdef0123456789abcdef", "orgs/acme/sessions/7"
	require.NoError(t, b.PutTicket(ctx, id, []byte(value), time.Minute))
	keys, err := c.Keys(ctx, "*").Result()
	require.NoError(t, err)
	require.Len(t, keys, 1)
	require.NotContains(t, keys[0], id)
	stored, err := c.Get(ctx, keys[0]).Result()
	require.NoError(t, err)
	require.NotContains(t, stored, value)

	// A writer to Redis can neither forge a ticket nor swap the values of two.
	require.NoError(t, b.PutTicket(ctx, "another ticket's id, as long as this", []byte("other"), time.Minute))
	all, err := c.Keys(ctx, "*").Result()
	require.NoError(t, err)
	for _, k := range all {
		require.NoError(t, c.Set(ctx, k, stored, time.Minute).Err())
	}
	_, err = b.TakeTicket(ctx, "another ticket's id, as long as this")
	require.ErrorIs(t, err, bus.ErrNoTicket)
	got, err := b.TakeTicket(ctx, id)
	require.NoError(t, err)
	require.Equal(t, value, string(got))
}

// Every key expires, or Redis would fill up.
func TestEverythingExpires(t *testing.T) {
	s := startServer(t)
	b, c, ctx := s.open(t), s.client(t), t.Context()
	_, err := b.Acquire(ctx, "n", time.Minute)
	require.NoError(t, err)
	require.NoError(t, b.PutTicket(ctx, "id", nil, time.Minute))
	require.NoError(t, b.SetPresence(ctx, "s", "m", nil, time.Minute))
	require.NoError(t, b.SetPresence(ctx, "s", "longer", nil, time.Hour))
	require.NoError(t, b.SetPresence(ctx, "s", "m", nil, time.Second))
	_, _, err = b.Allow(ctx, "k", 3, time.Minute)
	require.NoError(t, err)
	keys, err := c.Keys(ctx, "*").Result()
	require.NoError(t, err)
	require.Len(t, keys, 6)
	for _, k := range keys {
		ttl, err := c.PTTL(ctx, k).Result()
		require.NoError(t, err)
		require.Positive(t, ttl, k)
		if len(k) > len("relay:presence") && k[:len("relay:presence")] == "relay:presence" {
			require.Greater(t, ttl, 50*time.Minute, "%s must live as long as its last member", k)
		}
	}
}

// Redis stops and restarts empty: calls fail fast, subscriptions recover, and
// nothing has to be restarted.
func TestServerAway(t *testing.T) {
	s := startServer(t)
	a, b, ctx := s.open(t), s.open(t), t.Context()
	ch, err := a.Subscribe(ctx, "topic")
	require.NoError(t, err)
	l, err := a.Acquire(ctx, "n", time.Minute)
	require.NoError(t, err)

	s.stop(t)
	for name, call := range map[string]func() error{
		"ping":      func() error { return a.Ping(ctx) },
		"acquire":   func() error { _, err := a.Acquire(ctx, "m", time.Minute); return err },
		"renew":     func() error { return l.Renew(ctx, time.Minute) },
		"take":      func() error { _, err := a.TakeTicket(ctx, "id"); return err },
		"put":       func() error { return a.PutTicket(ctx, "id", nil, time.Minute) },
		"presence":  func() error { _, err := a.Presence(ctx, "s"); return err },
		"allow":     func() error { _, _, err := a.Allow(ctx, "k", 1, time.Minute); return err },
		"publish":   func() error { return a.Publish(ctx, "topic", nil) },
		"subscribe": func() error { _, err := a.Subscribe(ctx, "other"); return err },
	} {
		start := time.Now()
		require.ErrorIs(t, call(), bus.ErrUnavailable, name)
		require.Less(t, time.Since(start), 3*time.Second, name)
	}

	s.start(t)
	require.Eventually(t, func() bool { return a.Ping(ctx) == nil }, 10*time.Second, 20*time.Millisecond)
	require.ErrorIs(t, l.Renew(ctx, time.Minute), bus.ErrLost, "the server has forgotten the lease")
	again, err := a.Acquire(ctx, "n", time.Minute)
	require.NoError(t, err)
	require.Greater(t, again.Token(), l.Token())
	require.NoError(t, a.PutTicket(ctx, "id", []byte("v"), time.Minute))

	// The old subscription recovers.
	deadline := time.Now().Add(15 * time.Second)
	for {
		require.NoError(t, b.Publish(ctx, "topic", []byte("back")))
		select {
		case m := <-ch:
			require.Equal(t, "back", string(m))
		case <-time.After(50 * time.Millisecond):
			require.True(t, time.Now().Before(deadline), "the subscription did not come back")
			continue
		}
		break
	}
	_, err = a.Subscribe(ctx, "other")
	require.NoError(t, err)
}

// A server that accepts connections and never answers.
func TestServerHangs(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(io.Discard, c) // until the client gives up
			}()
		}
	}()
	b, err := busredis.New(busredis.Config{URL: "redis://" + l.Addr().String()})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for name, call := range map[string]func() error{
		"ping":      func() error { return b.Ping(ctx) },
		"acquire":   func() error { _, err := b.Acquire(ctx, "m", time.Minute); return err },
		"subscribe": func() error { _, err := b.Subscribe(ctx, "other"); return err },
	} {
		start := time.Now()
		require.ErrorIs(t, call(), bus.ErrUnavailable, name)
		require.Less(t, time.Since(start), 4*time.Second, name)
	}
	start := time.Now()
	require.NoError(t, b.Close())
	require.Less(t, time.Since(start), 5*time.Second)
	require.NoError(t, l.Close())
	<-done
}
