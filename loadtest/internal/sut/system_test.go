package sut_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/openova-io/bp-relay/loadtest/internal/probe"
	"github.com/openova-io/bp-relay/loadtest/internal/sut"
	"github.com/openova-io/bp-relay/services/dev/part"
	"github.com/openova-io/bp-relay/services/dev/stack"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
)

func start(t *testing.T, cfg sut.Config) *sut.System {
	t.Helper()
	cfg.Logger = slog.New(slog.DiscardHandler)
	s, err := sut.Start(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			for _, name := range []string{"stunnerd-relay-loadtest.log", "livekit.log"} {
				text, _ := os.ReadFile(filepath.Join(s.Logs, name))
				t.Logf("%s:\n%s", name, text)
			}
		}
		require.NoError(t, s.Stop())
	})
	return s
}

// allocate asks a TURN server for an allocation by its URL, as a browser does.
func allocate(t *testing.T, s sut.TURNServer, username, password string) (net.PacketConn, error) {
	t.Helper()
	_, relay, err := stacktest.Allocate(t, s.URL, username, password, s.CA)
	return relay, err
}

// turnCounters returns STUNner's counters.
func turnCounters(t *testing.T, s *sut.System) probe.TURN {
	t.Helper()
	m, err := probe.Scrape(t.Context(), s.TURNMetrics)
	require.NoError(t, err)
	c, ok := m.TURN()
	require.True(t, ok)
	return c
}

// TestStackRelaysToTheSFUOverEachListener makes an allocation over each
// listener: STUNner relays its datagrams to LiveKit's port and to no other.
func TestStackRelaysToTheSFUOverEachListener(t *testing.T) {
	s := start(t, sut.Config{})
	got, err := stack.CheckLiveKit(t.Context(), s.SignalURL, s.Key, s.Secret)
	require.NoError(t, err)
	require.Equal(t, s.URL, got.URL)
	require.Len(t, s.TURN, 3)

	m, err := probe.Scrape(t.Context(), s.SFUMetrics)
	require.NoError(t, err)
	sfu, ok := m.SFU()
	require.True(t, ok)
	require.Zero(t, sfu.Rooms)

	other, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = other.Close() }()
	for _, path := range []string{sut.UDP, sut.TCP, sut.TLS} {
		before := turnCounters(t, s)
		server := s.TURN[path]
		username, password := sut.Credentials(server.Secret, time.Minute, time.Now(), "tester")
		relay, err := allocate(t, server, username, password)
		require.NoError(t, err, path)
		require.Equal(t, "127.0.0.1", relay.LocalAddr().(*net.UDPAddr).IP.String(), "a relayed candidate of loopback")

		// The first write asks for a permission and waits for the answer.
		const sent, size = 20, 100
		for range sent {
			_, err := relay.WriteTo(make([]byte, size), net.UDPAddrFromAddrPort(s.Media))
			require.NoError(t, err, path)
		}
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			d, ok := turnCounters(t, s).Sub(before)
			require.True(c, ok)
			require.Equal(c, int64(sent), d.Relayed().TxPackets, "datagrams to the SFU")
			require.Equal(c, int64(sent*size), d.Relayed().TxBytes, "without TURN's framing")
			require.Positive(c, d.Listeners[path].RxPackets)
			require.Equal(c, 1, d.Allocations, "the ones before are closed")
		}, 10*time.Second, 50*time.Millisecond, path)

		// Another port of the same address: the permission is by address, but
		// STUNner checks the port of each datagram.
		_, _ = relay.WriteTo([]byte("not for you"), other.LocalAddr())
		require.NoError(t, relay.Close())
	}
	require.NoError(t, other.SetReadDeadline(time.Now().Add(200*time.Millisecond)))
	_, _, err = other.ReadFrom(make([]byte, 100))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded, "nothing but the SFU can be reached")
}

func TestCredentials(t *testing.T) {
	s := start(t, sut.Config{})
	for name, c := range map[string]struct {
		ttl    time.Duration
		secret string
	}{
		"of another secret": {time.Minute, strings.Repeat("x", 43)},
		"of yesterday":      {-24 * time.Hour, s.TURN[sut.UDP].Secret},
	} {
		username, password := sut.Credentials(c.secret, c.ttl, time.Now(), "tester")
		_, err := allocate(t, s.TURN[sut.UDP], username, password)
		require.Error(t, err, name)
	}
	// draft-uberti-behave-turn-rest-00, section 2.2, computed with openssl:
	// printf 1700000060:tester | openssl dgst -sha1 -hmac s3cret -binary | base64
	username, password := sut.Credentials("s3cret", time.Minute, time.Unix(1700000000, 0), "tester")
	require.Equal(t, "1700000060:tester", username)
	require.Equal(t, "kvYplvTalzm1VTVggr34GcV5vwg=", password)
	_, err := tls.Dial("tcp", hostPort(s.TURN[sut.TLS].URL), &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12})
	require.Error(t, err, "no other certificate is trusted")
}

func hostPort(url string) string {
	_, rest, _ := strings.Cut(url, ":")
	addr, _, _ := strings.Cut(rest, "?")
	return addr
}

// TestStackLeavesNothing: no process, port, folder or goroutine is left, and
// the exit of a part is reported.
func TestStackLeavesNothing(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := t.TempDir()
	s, err := sut.Start(t.Context(), sut.Config{Dir: dir, NoTURN: true, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	require.Empty(t, s.TURN)
	require.Len(t, s.Processes, 1)
	_, err = probe.Find("livekit-server-that-is-not-there")
	require.ErrorIs(t, err, probe.ErrNotFound)
	require.DirExists(t, s.Logs)

	p, err := os.FindProcess(s.Processes[sut.SFU])
	require.NoError(t, err)
	require.NoError(t, p.Kill())
	select {
	case x := <-s.Exits():
		require.Equal(t, string(part.LiveKit), x.Name)
	case <-time.After(10 * time.Second):
		require.Fail(t, "the exit of LiveKit was not reported")
	}
	require.NoError(t, s.Stop())
	require.NoError(t, s.Stop(), "twice")
	_, err = net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	require.Error(t, err)
}

// TestRunning reads a file like that of `relay-dev up`, which
// services/dev/runfile writes.
func TestRunning(t *testing.T) {
	dir := t.TempDir()
	_, err := sut.Running(t.Context(), dir)
	require.ErrorIs(t, err, sut.ErrNone)

	ready := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	defer ready.Close()
	text, err := json.Marshal(map[string]any{
		"api": "127.0.0.1:8443", "admin": ready.Listener.Addr().String(), "data": dir, "issuer": "http://127.0.0.1:8443/dev-issuer", "pid": os.Getpid(),
		"livekit": "ws://127.0.0.1:7880", "turn_metrics": "http://127.0.0.1:8088/metrics", "processes": map[string]int{"sfu": 12, "turn": 13},
	})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "running.json"), bytes.TrimSpace(text), 0o600))
	up, err := sut.Running(t.Context(), dir)
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:8443", up.API)
	require.Equal(t, "ws://127.0.0.1:7880", up.LiveKit)
	require.Equal(t, map[string]int{"sfu": 12, "turn": 13}, up.Processes)
	_, err = up.Token("me", "admin")
	require.Error(t, err, "the issuer's key is missing, and none is made")
}
