// Package localtest gives tests real servers: each helper obtains the part
// where it is missing (the first time takes minutes), starts a private
// instance on free loopback ports in a temporary folder, and stops it when
// the test ends. A part that cannot be had fails the test and says why.
//
// Starting SeaweedFS takes seconds. A test binary with many tests against it
// keeps one [Shared] in its TestMain and asks that instead.
package localtest

import (
	"context"
	"os"
	"testing"

	"github.com/openova-io/bp-relay/services/local"
)

// Env returns an environment in a temporary folder with the named parts
// obtained. What is started from it is stopped by the caller; its ports are
// given back, and its folder is removed, when the test ends.
func Env(t testing.TB, parts ...local.Name) *local.Env {
	t.Helper()
	env, done, err := newEnv(parts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(done)
	return env
}

func newEnv(parts ...local.Name) (*local.Env, func(), error) {
	list, err := local.Parts(parts...)
	if err != nil {
		return nil, nil, err
	}
	tools, err := local.Obtainer{}.Obtain(context.Background(), list)
	if err != nil {
		return nil, nil, err
	}
	// Not t.TempDir: its path holds the test's name, and a unix socket's path
	// may have 107 bytes.
	dir, err := os.MkdirTemp("", "relay-")
	if err != nil {
		return nil, nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // PostgreSQL runs as another user
		return nil, nil, err
	}
	ports := new(local.Ports)
	return &local.Env{Dir: dir, Tools: tools, Ports: ports}, func() {
		ports.Release()
		_ = os.RemoveAll(dir)
	}, nil
}

// start obtains a part, starts it and has it stopped when the test ends.
func start[T stopper](t testing.TB, part local.Name, run func(context.Context, *local.Env) (T, error)) T {
	t.Helper()
	env := Env(t, part)
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
func SeaweedFS(t testing.TB, buckets ...string) *local.S3 {
	t.Helper()
	return start(t, local.PartSeaweedFS, func(ctx context.Context, e *local.Env) (*local.S3, error) {
		return e.StartSeaweedFS(ctx, local.SeaweedFSConfig{Buckets: buckets})
	})
}

// LiveKit starts a private LiveKit that posts its webhooks to the given URLs.
func LiveKit(t testing.TB, webhooks ...string) *local.LiveKit {
	t.Helper()
	return start(t, local.PartLiveKit, func(ctx context.Context, e *local.Env) (*local.LiveKit, error) {
		return e.StartLiveKit(ctx, local.LiveKitConfig{Webhooks: webhooks})
	})
}

// Guacd starts a private guacd. It needs root.
func Guacd(t testing.TB) *local.Guacd {
	t.Helper()
	return start(t, local.PartGuacd, func(ctx context.Context, e *local.Env) (*local.Guacd, error) {
		return e.StartGuacd(ctx, local.GuacdConfig{})
	})
}

// SSHD starts a private sshd that guacd can log in to.
func SSHD(t testing.TB) *local.SSHD {
	t.Helper()
	return start(t, local.PartSSHD, func(ctx context.Context, e *local.Env) (*local.SSHD, error) {
		return e.StartSSHD(ctx, local.SSHDConfig{})
	})
}

// Stunnerd starts a STUNner data plane that takes the configuration of id
// ("relay/gw") from the config discovery service at cdsOrigin, which must
// serve it already, and returns when it runs it.
func Stunnerd(t testing.TB, cdsOrigin, id string) *local.Stunnerd {
	t.Helper()
	return start(t, local.PartStunner, func(ctx context.Context, e *local.Env) (*local.Stunnerd, error) {
		return e.StartStunnerd(ctx, local.StunnerdConfig{Origin: cdsOrigin, ID: id})
	})
}

// Postgres starts a private PostgreSQL with an empty database.
func Postgres(t testing.TB) *local.Postgres {
	t.Helper()
	return start(t, local.PartPostgres, func(ctx context.Context, e *local.Env) (*local.Postgres, error) {
		return e.StartPostgres(ctx, local.PostgresConfig{})
	})
}

// Redis starts a private, empty Redis.
func Redis(t testing.TB) *local.Redis {
	t.Helper()
	return start(t, local.PartRedis, func(ctx context.Context, e *local.Env) (*local.Redis, error) {
		return e.StartRedis(ctx, local.RedisConfig{})
	})
}

// Port returns a free loopback port that no other test on this machine is
// handed until this one ends.
func Port(t testing.TB) int {
	t.Helper()
	ports := new(local.Ports)
	t.Cleanup(ports.Release)
	n, err := ports.Take()
	if err != nil {
		t.Fatal(err)
	}
	return n
}
