package cds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs a server until the test ends; Run must then return nil.
func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	cfg.Logger = slog.New(slog.DiscardHandler)
	s, err := New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
		http.DefaultClient.CloseIdleConnections()
	})
	return s
}

func watch(t *testing.T, s *Server, id string) *websocket.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, res, err := websocket.Dial(ctx, "ws://"+s.Addr().String()+"/api/v1/configs/"+id+"?watch=true&node=n1", nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, res.StatusCode)
	conn.SetReadLimit(8 << 20)
	t.Cleanup(func() { _ = conn.CloseNow() })
	return conn
}

func read(t *testing.T, conn *websocket.Conn) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	kind, p, err := conn.Read(ctx)
	require.NoError(t, err)
	require.Equal(t, websocket.MessageText, kind)
	return string(p)
}

func get(t *testing.T, s *Server, path, host string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, s.Origin()+path, nil)
	require.NoError(t, err)
	req.Host = host
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(body)
}

func TestGetAnswersOneIDOnly(t *testing.T) {
	s := start(t, Config{})
	s.Set("relay/a", "v1", []byte(`{"version":"v1"}`))
	code, body := get(t, s, "/api/v1/configs/relay/a", "")
	require.Equal(t, 200, code)
	require.Equal(t, `{"version":"v1"}`, body)
	for _, path := range []string{
		"/api/v1/configs/relay/b", "/api/v1/configs/relay/b?watch=true", "/api/v1/configs", "/api/v1/configs?watch=true",
		"/api/v1/configs/relay", "/api/v1/configs/relay/", "/api/v1/configs/relay/a/", "/api/v1/license", "/",
	} {
		code, body := get(t, s, path, "")
		require.Equal(t, 404, code, path)
		require.NotContains(t, body, `"version"`, path)
	}
}

func TestPagesOfOthersAreRefused(t *testing.T) {
	s := start(t, Config{})
	s.Set("relay/a", "v1", []byte(`{"version":"v1"}`))
	port := s.Addr().Port()
	for host, want := range map[string]int{
		fmt.Sprintf("127.0.0.1:%d", port): 200, fmt.Sprintf("localhost:%d", port): 200, fmt.Sprintf("[::1]:%d", port): 200,
		fmt.Sprintf("rebound.example:%d", port): 403, "192.0.2.1": 403, "127.0.0.1.example": 403,
	} {
		code, body := get(t, s, "/api/v1/configs/relay/a", host)
		require.Equal(t, want, code, host)
		require.Equal(t, want == 200, strings.Contains(body, "version"), host)
	}
	// A page of another origin opens a WebSocket to the server.
	_, res, err := websocket.Dial(t.Context(), "ws://"+s.Addr().String()+"/api/v1/configs/relay/a?watch=true",
		&websocket.DialOptions{HTTPHeader: http.Header{"Origin": {"http://rebound.example"}}})
	require.Error(t, err)
	require.Equal(t, 403, res.StatusCode)
	require.Zero(t, s.Watchers("relay/a"), "a refused upgrade leaves no watcher behind")
}

// With a token, a process that does not know it reads nothing, by either way.
func TestOtherUsersAreKeptOut(t *testing.T) {
	s := start(t, Config{Token: "n1"})
	s.Set("relay/gw", "1", []byte(`{"secret":"s3cret"}`))
	for _, path := range []string{"/api/v1/configs/relay/gw", "/api/v1/configs/relay/gw?node=", "/api/v1/configs/relay/gw?node=n2", "/api/v1/configs/relay/gw?watch=true"} {
		code, body := get(t, s, path, s.Addr().String())
		require.Equal(t, http.StatusForbidden, code, path)
		require.NotContains(t, body, "s3cret")
		require.NotContains(t, body, "n1")
	}
	code, body := get(t, s, "/api/v1/configs/relay/gw?node=n1", s.Addr().String())
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, body, "s3cret")
	require.Contains(t, read(t, watch(t, s, "relay/gw")), "s3cret")
}

func TestWatcherGetsCurrentThenEachNewer(t *testing.T) {
	s := start(t, Config{})
	s.Set("relay/a", "v1", []byte("one"))
	conn := watch(t, s, "relay/a")
	require.Equal(t, "one", read(t, conn))
	require.Equal(t, 1, s.Watchers("relay/a"))
	s.Set("relay/b", "v1", []byte("of another"))
	s.Set("relay/a", "v1", []byte("one")) // equal: not sent again
	s.Set("relay/a", "v2", []byte("two"))
	require.Equal(t, "two", read(t, conn))
	s.Set("relay/a", "v3", []byte("three"))
	require.Equal(t, "three", read(t, conn))

	again := watch(t, s, "relay/a")
	require.Equal(t, "three", read(t, again), "who connects later gets the newest one at once")

	s.Delete("relay/a")
	_, _, err := conn.Read(t.Context())
	require.Equal(t, websocket.StatusNormalClosure, websocket.CloseStatus(err))
	code, _ := get(t, s, "/api/v1/configs/relay/a", "")
	require.Equal(t, 404, code)
}

// TestStalledWatcherDelaysNoOther: one watcher never reads. The others get each
// new configuration at once; the stalled one is closed and its slot is free
// again.
func TestStalledWatcherDelaysNoOther(t *testing.T) {
	s := start(t, Config{})
	big := strings.Repeat("x", 6<<20) // more than the sockets' buffers hold
	s.Set("relay/a", "v0", []byte(big))
	stalled, err := net.Dial("tcp", s.Addr().String())
	require.NoError(t, err)
	defer stalled.Close()
	_, err = fmt.Fprintf(stalled, "GET /api/v1/configs/relay/a?watch=true HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", s.Addr())
	require.NoError(t, err)
	require.Eventually(t, func() bool { return s.Watchers("relay/a") == 1 }, 5*time.Second, 5*time.Millisecond)

	conn := watch(t, s, "relay/a")
	require.Len(t, read(t, conn), len(big))
	for i := range 500 {
		began := time.Now()
		text := fmt.Sprint("config ", i)
		s.Set("relay/a", text, []byte(text))
		require.Less(t, time.Since(began), time.Second)
		require.Equal(t, text, read(t, conn))
	}
	require.Eventually(t, func() bool { return s.Watchers("relay/a") == 1 }, 2*writeTimeout, 20*time.Millisecond,
		"the write deadline cuts the stalled watcher off")
}

func TestWatcherSkipsWhatIsOld(t *testing.T) {
	s := start(t, Config{})
	s.Set("relay/a", "v0", []byte("v0"))
	conn := watch(t, s, "relay/a")
	for i := range 10_000 {
		s.Set("relay/a", fmt.Sprint("v", i), fmt.Appendf(nil, "v%d", i))
	}
	var last string
	for n := 0; last != "v9999"; n++ {
		require.Less(t, n, 10_001)
		last = read(t, conn)
	}
}

func TestWatchersAreBounded(t *testing.T) {
	s := start(t, Config{MaxWatchers: 2})
	s.Set("relay/a", "v1", []byte("one"))
	first := watch(t, s, "relay/a")
	watch(t, s, "relay/a")
	_, res, err := websocket.Dial(t.Context(), "ws://"+s.Addr().String()+"/api/v1/configs/relay/a?watch=true", nil)
	require.Error(t, err)
	require.Equal(t, 503, res.StatusCode)
	require.NoError(t, first.CloseNow())
	require.Eventually(t, func() bool { return s.Watchers("relay/a") == 1 }, 5*time.Second, 5*time.Millisecond)
	require.Equal(t, "one", read(t, watch(t, s, "relay/a")))
}

func TestPeerThatTalksIsCutOff(t *testing.T) {
	s := start(t, Config{})
	s.Set("relay/a", "v1", []byte("one"))
	conn := watch(t, s, "relay/a")
	require.Equal(t, "one", read(t, conn))
	require.NoError(t, conn.Write(t.Context(), websocket.MessageText, []byte("hello")))
	_, _, err := conn.Read(t.Context())
	require.Error(t, err)
	require.Eventually(t, func() bool { return s.Watchers("relay/a") == 0 }, 5*time.Second, 5*time.Millisecond)
}

func TestLoopbackOnly(t *testing.T) {
	for _, a := range []string{"0.0.0.0:0", ":13478", "192.0.2.1:0", "[::]:0", "turn.example:1"} {
		_, err := New(Config{Listen: a})
		require.Error(t, err, a)
	}
}

func TestStopEndsWatchers(t *testing.T) {
	s, err := New(Config{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	s.Set("relay/a", "v1", []byte("one"))
	conn := watch(t, s, "relay/a")
	require.Equal(t, "one", read(t, conn))
	cancel()
	require.NoError(t, <-done)
	_, _, err = conn.Read(t.Context())
	require.Error(t, err)
	_, err = net.Dial("tcp", s.Addr().String())
	var op *net.OpError
	require.True(t, errors.As(err, &op), "the address is free again")
}
