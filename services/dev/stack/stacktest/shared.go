package stacktest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/openova-io/bp-relay/services/dev/part"
	"github.com/openova-io/bp-relay/services/dev/stack"
)

// Shared starts each server at most once for all tests of a binary. Tests use
// different names of buckets, rooms, databases and keys in it, and leave it
// running: a test that kills a server starts its own.
//
//	var shared stacktest.Shared
//
//	func TestMain(m *testing.M) { os.Exit(shared.Run(m)) }
type Shared struct {
	mu      sync.Mutex
	servers map[part.Name]any // a stopper, or why it did not start
	clean   []func()
}

// Run runs the tests, stops what they started, and returns the exit code.
func (s *Shared) Run(m *testing.M) int {
	code := m.Run()
	if err := s.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(code, 1)
	}
	return code
}

// Close stops what was started. [Shared.Run] calls it.
func (s *Shared) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, srv := range s.servers {
		if srv, ok := srv.(stopper); ok {
			errs = append(errs, srv.Stop())
		}
	}
	for _, f := range s.clean {
		f()
	}
	s.servers, s.clean = nil, nil
	return errors.Join(errs...)
}

// SeaweedFS returns the shared SeaweedFS. A test creates its own buckets.
func (s *Shared) SeaweedFS(t testing.TB) *stack.S3 {
	t.Helper()
	return once(t, s, part.SeaweedFS, func(ctx context.Context, e *stack.Env) (*stack.S3, error) {
		return e.StartSeaweedFS(ctx, stack.SeaweedFSConfig{Buckets: []string{"relay-health"}})
	})
}

// LiveKit returns the shared LiveKit, which posts no webhooks.
func (s *Shared) LiveKit(t testing.TB) *stack.LiveKit {
	t.Helper()
	return once(t, s, part.LiveKit, func(ctx context.Context, e *stack.Env) (*stack.LiveKit, error) {
		return e.StartLiveKit(ctx, stack.LiveKitConfig{})
	})
}

// Guacd returns the shared guacd.
func (s *Shared) Guacd(t testing.TB) *stack.Guacd {
	t.Helper()
	return once(t, s, part.Guacd, func(ctx context.Context, e *stack.Env) (*stack.Guacd, error) {
		return e.StartGuacd(ctx, stack.GuacdConfig{})
	})
}

// SSHD returns the shared sshd.
func (s *Shared) SSHD(t testing.TB) *stack.SSHD {
	t.Helper()
	return once(t, s, part.SSHD, func(ctx context.Context, e *stack.Env) (*stack.SSHD, error) {
		return e.StartSSHD(ctx, stack.SSHDConfig{})
	})
}

// Postgres returns the shared PostgreSQL. Its user can create databases.
func (s *Shared) Postgres(t testing.TB) *stack.Postgres {
	t.Helper()
	return once(t, s, part.Postgres, func(ctx context.Context, e *stack.Env) (*stack.Postgres, error) {
		return e.StartPostgres(ctx, stack.PostgresConfig{})
	})
}

// Redis returns the shared Redis.
func (s *Shared) Redis(t testing.TB) *stack.Redis {
	t.Helper()
	return once(t, s, part.Redis, func(ctx context.Context, e *stack.Env) (*stack.Redis, error) {
		return e.StartRedis(ctx, stack.RedisConfig{})
	})
}

// once starts a part for the first test that needs it. If that fails, every
// test that needs it fails, without another attempt.
func once[T stopper](t testing.TB, s *Shared, name part.Name, run func(context.Context, *stack.Env) (T, error)) T {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.servers == nil {
		s.servers = map[part.Name]any{}
	}
	if s.servers[name] == nil {
		s.servers[name] = func() any {
			env, done, err := newEnv(name)
			if err != nil {
				return err
			}
			s.clean = append(s.clean, done)
			srv, err := run(context.Background(), env)
			if err != nil {
				return err
			}
			return srv
		}()
	}
	if err, ok := s.servers[name].(error); ok {
		t.Fatal(err)
	}
	return s.servers[name].(T)
}
