package redis_test

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	busredis "github.com/openova-io/bp-relay/services/bus/redis"
)

const password = "a password for tests"

// server is the test's own redis-server: tests stop it and restart it on the
// same port without its data.
type server struct {
	bin  string
	port int
	cmd  *exec.Cmd
}

func startServer(t testing.TB) *server {
	t.Helper()
	bin, err := exec.LookPath("redis-server")
	require.NoError(t, err, "the Debian package redis-server is needed")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &server{bin: bin, port: l.Addr().(*net.TCPAddr).Port}
	require.NoError(t, l.Close())
	s.start(t)
	t.Cleanup(func() { s.stop(t) })
	return s
}

func (s *server) url() string { return fmt.Sprintf("redis://127.0.0.1:%d/0", s.port) }

func (s *server) start(t testing.TB) {
	t.Helper()
	require.Nil(t, s.cmd)
	s.cmd = exec.Command(s.bin, "--port", fmt.Sprint(s.port), "--bind", "127.0.0.1", "--requirepass", password,
		"--save", "", "--appendonly", "no", "--dir", t.TempDir())
	require.NoError(t, s.cmd.Start())
	c := s.client(t)
	require.Eventually(t, func() bool { return c.Ping(context.Background()).Err() == nil }, 10*time.Second, 10*time.Millisecond)
}

// stop kills the server.
func (s *server) stop(t testing.TB) {
	t.Helper()
	if s.cmd == nil {
		return
	}
	require.NoError(t, s.cmd.Process.Kill())
	_ = s.cmd.Wait() // its error is that it was killed
	s.cmd = nil
}

// client is a bare client, to look at the server without the bus.
func (s *server) client(t testing.TB) *goredis.Client {
	t.Helper()
	c := goredis.NewClient(&goredis.Options{Addr: fmt.Sprintf("127.0.0.1:%d", s.port), Password: password})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func (s *server) open(t testing.TB) *busredis.Bus {
	t.Helper()
	b, err := busredis.New(busredis.Config{URL: s.url(), Password: password})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}
