// Package stacktest gives tests real servers: each helper obtains the part if
// it is missing (the first time takes minutes), starts a private server on free
// loopback ports in a temporary folder, and stops it when the test ends. A part
// that cannot be obtained fails the test.
//
// Starting SeaweedFS takes seconds. A test binary with many tests against it
// keeps one [Shared] in its TestMain.
package stacktest

import (
	"context"
	"os"
	"testing"

	"github.com/openova-io/bp-relay/services/dev/part"
	"github.com/openova-io/bp-relay/services/dev/stack"
)

// Env returns an environment in a temporary folder with the named parts
// obtained. The caller stops what it starts from it. When the test ends, its
// ports are given back and its folder is removed.
func Env(t testing.TB, parts ...part.Name) *stack.Env {
	t.Helper()
	env, done, err := newEnv(parts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(done)
	return env
}

func newEnv(parts ...part.Name) (*stack.Env, func(), error) {
	list, err := part.Named(parts...)
	if err != nil {
		return nil, nil, err
	}
	tools, err := part.Obtainer{}.Obtain(context.Background(), list)
	if err != nil {
		return nil, nil, err
	}
	// Not t.TempDir: its path contains the test's name, and a unix socket's path
	// has at most 107 bytes.
	dir, err := os.MkdirTemp("", "relay-")
	if err != nil {
		return nil, nil, err
	}
	ports := new(stack.Ports)
	return &stack.Env{Dir: dir, Tools: tools, Ports: ports}, func() {
		ports.Release()
		_ = os.RemoveAll(dir)
	}, nil
}

// start obtains a part, starts it and stops it when the test ends.
func start[T stopper](t testing.TB, name part.Name, run func(context.Context, *stack.Env) (T, error)) T {
	t.Helper()
	env := Env(t, name)
	srv, err := run(context.Background(), env)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Stop(); err != nil {
			t.Error(err)
		}
	})
	return srv
}

type stopper interface{ Stop() error }

// SeaweedFS starts a private SeaweedFS with the given buckets.
func SeaweedFS(t testing.TB, buckets ...string) *stack.S3 {
	t.Helper()
	return start(t, part.SeaweedFS, func(ctx context.Context, e *stack.Env) (*stack.S3, error) {
		return e.StartSeaweedFS(ctx, stack.SeaweedFSConfig{Buckets: buckets})
	})
}

// WeakSeaweedFS starts a private SeaweedFS 3.39, which carries out unsigned
// requests.
func WeakSeaweedFS(t testing.TB, buckets ...string) *stack.S3 {
	t.Helper()
	return start(t, part.WeakSeaweedFS, func(ctx context.Context, e *stack.Env) (*stack.S3, error) {
		return e.StartSeaweedFS(ctx, stack.SeaweedFSConfig{Weak: true, Buckets: buckets})
	})
}

// LiveKit starts a private LiveKit that posts its webhooks to these URLs.
func LiveKit(t testing.TB, webhooks ...string) *stack.LiveKit {
	t.Helper()
	return start(t, part.LiveKit, func(ctx context.Context, e *stack.Env) (*stack.LiveKit, error) {
		return e.StartLiveKit(ctx, stack.LiveKitConfig{Webhooks: webhooks})
	})
}

// Guacd starts a private guacd. It needs root.
func Guacd(t testing.TB) *stack.Guacd {
	t.Helper()
	return start(t, part.Guacd, func(ctx context.Context, e *stack.Env) (*stack.Guacd, error) {
		return e.StartGuacd(ctx, stack.GuacdConfig{})
	})
}

// SSHD starts a private sshd that guacd can log in to.
func SSHD(t testing.TB) *stack.SSHD {
	t.Helper()
	return start(t, part.SSHD, func(ctx context.Context, e *stack.Env) (*stack.SSHD, error) {
		return e.StartSSHD(ctx, stack.SSHDConfig{})
	})
}

// Stunnerd starts a STUNner data plane and returns when it runs the
// configuration of id ("relay/gw"), which the config discovery service at
// cdsOrigin must already serve.
func Stunnerd(t testing.TB, cdsOrigin, id string) *stack.Stunnerd {
	t.Helper()
	return start(t, part.Stunner, func(ctx context.Context, e *stack.Env) (*stack.Stunnerd, error) {
		return e.StartStunnerd(ctx, stack.StunnerdConfig{Origin: cdsOrigin, ID: id})
	})
}

// Postgres starts a private PostgreSQL with an empty database.
func Postgres(t testing.TB) *stack.Postgres {
	t.Helper()
	return start(t, part.Postgres, func(ctx context.Context, e *stack.Env) (*stack.Postgres, error) {
		return e.StartPostgres(ctx, stack.PostgresConfig{})
	})
}

// Redis starts a private, empty Redis.
func Redis(t testing.TB) *stack.Redis {
	t.Helper()
	return start(t, part.Redis, func(ctx context.Context, e *stack.Env) (*stack.Redis, error) {
		return e.StartRedis(ctx, stack.RedisConfig{})
	})
}

// Port returns a free loopback port. No other test on this machine gets it
// before this one ends.
func Port(t testing.TB) int {
	t.Helper()
	ports := new(stack.Ports)
	t.Cleanup(ports.Release)
	n, err := ports.Take()
	if err != nil {
		t.Fatal(err)
	}
	return n
}
