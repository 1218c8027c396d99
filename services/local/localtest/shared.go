package localtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/openova-io/bp-relay/services/local"
)

// Shared starts each server at most once for all tests of a binary. Tests that
// share a server keep apart by the names of their buckets, rooms, databases
// and keys, and leave it running: a test that kills it starts its own.
//
//	var shared localtest.Shared
//
//	func TestMain(m *testing.M) { os.Exit(shared.Run(m)) }
type Shared struct {
	mu      sync.Mutex
	servers map[local.Name]any // a stopper, or the error of its start
	clean   []func()
}

// Run runs the tests and then stops what they started. It returns the code to
// exit with.
func (s *Shared) Run(m *testing.M) int {
	code := m.Run()
	if err := s.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(code, 1)
	}
	return code
}

// Close stops what was started. Run calls it.
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

// SeaweedFS returns the shared SeaweedFS, which has no buckets of its own.
func (s *Shared) SeaweedFS(t testing.TB) *local.S3 {
	t.Helper()
	return once(t, s, local.PartSeaweedFS, func(ctx context.Context, e *local.Env) (*local.S3, error) {
		return e.StartSeaweedFS(ctx, local.SeaweedFSConfig{Buckets: []string{"relay-health"}})
	})
}

// LiveKit returns the shared LiveKit, which posts no webhooks.
func (s *Shared) LiveKit(t testing.TB) *local.LiveKit {
	t.Helper()
	return once(t, s, local.PartLiveKit, func(ctx context.Context, e *local.Env) (*local.LiveKit, error) {
		return e.StartLiveKit(ctx, local.LiveKitConfig{})
	})
}

// Guacd returns the shared guacd.
func (s *Shared) Guacd(t testing.TB) *local.Guacd {
	t.Helper()
	return once(t, s, local.PartGuacd, func(ctx context.Context, e *local.Env) (*local.Guacd, error) {
		return e.StartGuacd(ctx, local.GuacdConfig{})
	})
}

// SSHD returns the shared sshd.
func (s *Shared) SSHD(t testing.TB) *local.SSHD {
	t.Helper()
	return once(t, s, local.PartSSHD, func(ctx context.Context, e *local.Env) (*local.SSHD, error) {
		return e.StartSSHD(ctx, local.SSHDConfig{})
	})
}

// Postgres returns the shared PostgreSQL. Its user may create databases.
func (s *Shared) Postgres(t testing.TB) *local.Postgres {
	t.Helper()
	return once(t, s, local.PartPostgres, func(ctx context.Context, e *local.Env) (*local.Postgres, error) {
		return e.StartPostgres(ctx, local.PostgresConfig{})
	})
}

// Redis returns the shared Redis.
func (s *Shared) Redis(t testing.TB) *local.Redis {
	t.Helper()
	return once(t, s, local.PartRedis, func(ctx context.Context, e *local.Env) (*local.Redis, error) {
		return e.StartRedis(ctx, local.RedisConfig{})
	})
}

// once starts a part for the first test that asks. A start that failed fails
// every test that asks, without a second try.
func once[T stopper](t testing.TB, s *Shared, part local.Name, run func(context.Context, *local.Env) (T, error)) T {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.servers == nil {
		s.servers = map[local.Name]any{}
	}
	if s.servers[part] == nil {
		s.servers[part] = func() any {
			env, done, err := newEnv(part)
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
	if err, ok := s.servers[part].(error); ok {
		t.Fatal(err)
	}
	return s.servers[part].(T)
}
