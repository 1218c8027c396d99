package turn_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	pion "github.com/pion/turn/v4"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/dev/part"
	"github.com/openova-io/bp-relay/services/dev/stack"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
	"github.com/openova-io/bp-relay/services/internal/keyring"
	"github.com/openova-io/bp-relay/services/records/sqlite"
	"github.com/openova-io/bp-relay/services/turn"
)

// rig is a turn service that can be stopped and started again, with a real
// stunnerd and UDP echo servers instead of the SFU.
type rig struct {
	t       testing.TB
	env     *stack.Env
	records *sqlite.DB
	keys    *keyring.Keyring
	cfg     turn.Config
	gateway turn.Gateway

	service *turn.Service
	stop    func()
	daemon  *exec.Cmd
	exited  func() error // once daemon has exited
}

var loopback = netip.MustParseAddr("127.0.0.1")

func newRig(t testing.TB, change ...func(*rig)) *rig {
	t.Helper()
	r := &rig{t: t, env: stacktest.Env(t, part.Stunner)}
	var err error
	r.keys, err = keyring.New(bytes.Repeat([]byte{1}, 32))
	require.NoError(t, err)
	r.records, err = sqlite.Open(context.Background(), sqlite.Config{Path: filepath.Join(t.TempDir(), "records.db"), Logger: quiet()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.records.Close()) })
	peer := echoServer(t, "127.0.0.1")
	r.gateway = turn.Gateway{
		Name:      "gateways/default",
		Listeners: []turn.Listener{{Name: "udp", Protocol: turn.UDP, Port: r.port(), RelayAddr: loopback}},
		Peers:     []turn.Peer{{Addr: loopback, MinPort: peer.port(), MaxPort: peer.port()}},
		Health:    netip.AddrPortFrom(loopback, r.port()),
		Metrics:   netip.AddrPortFrom(loopback, r.port()),
	}
	r.cfg = turn.Config{
		Records: r.records, Keys: r.keys, Logger: quiet(),
		Discovery: netip.AddrPortFrom(loopback, r.port()).String(), Echo: netip.AddrPortFrom(loopback, r.port()),
	}
	for _, f := range change {
		f(r)
	}
	return r
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func (r *rig) port() uint16 {
	n, err := r.env.Ports.Take()
	require.NoError(r.t, err)
	return uint16(n)
}

// serve starts the service.
func (r *rig) serve() {
	r.t.Helper()
	r.cfg.Gateways = []turn.Gateway{r.gateway}
	s, err := turn.New(r.cfg)
	require.NoError(r.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	r.service = s
	var stopped atomic.Bool
	r.stop = func() {
		if stopped.CompareAndSwap(false, true) {
			cancel()
			require.NoError(r.t, <-done)
		}
	}
	r.t.Cleanup(r.stop)
}

// start starts a real stunnerd that watches the service's discovery.
func (r *rig) start() {
	r.t.Helper()
	log, err := os.OpenFile(filepath.Join(r.env.Dir, "stunnerd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(r.t, err)
	defer log.Close()
	cmd := exec.Command(r.env.Tools["stunnerd"], "-w", "-c", r.service.Origin(), "-i", r.gateway.ID())
	cmd.Stdout, cmd.Stderr = log, log
	r.exited, err = stacktest.StartChild(cmd)
	require.NoError(r.t, err)
	r.daemon = cmd
	r.t.Cleanup(func() {
		r.kill()
		if r.t.Failed() {
			text, _ := os.ReadFile(log.Name())
			r.t.Logf("stunnerd:\n%s", text)
		}
	})
}

// kill kills the stunnerd that start started.
func (r *rig) kill() {
	if r.daemon != nil {
		_ = r.daemon.Process.Kill()
		_ = r.exited()
		r.daemon = nil
	}
}

// apply changes the gateway and waits until it is healthy.
func (r *rig) apply(force bool) (turn.Impact, turn.Health) {
	r.t.Helper()
	impact, h, err := r.try(force, 20*time.Second)
	require.NoError(r.t, err)
	require.Equal(r.t, turn.Healthy, h.State)
	require.Equal(r.t, h.Served, h.Applied)
	return impact, h
}

func (r *rig) try(force bool, wait time.Duration) (turn.Impact, turn.Health, error) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	return r.service.Apply(ctx, r.gateway, force)
}

func (r *rig) mint() turn.IceServers {
	r.t.Helper()
	got, err := r.service.Mint(context.Background(), "acme", "tester", 0)
	require.NoError(r.t, err)
	require.Len(r.t, got.Servers, 1)
	return got
}

// echo is a UDP echo server that counts what reaches it.
type echo struct {
	conn *net.UDPConn
	seen atomic.Int64
}

func echoServer(t testing.TB, host string) *echo {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(host), 0)))
	require.NoError(t, err)
	e := &echo{conn: conn}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			e.seen.Add(1)
			_, _ = conn.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	return e
}

func (e *echo) addr() *net.UDPAddr { return e.conn.LocalAddr().(*net.UDPAddr) }
func (e *echo) port() uint16       { return uint16(e.addr().Port) }

// call is one participant's allocation.
type call struct {
	t      testing.TB
	client *pion.Client
	relay  net.PacketConn
}

// dial allocates through an ICE URL as a browser would.
func dial(t testing.TB, url, username, password string, roots *x509.CertPool) (*call, error) {
	t.Helper()
	client, relay, err := stacktest.Allocate(t, url, username, password, roots)
	if err != nil {
		return nil, err
	}
	return &call{t: t, client: client, relay: relay}, nil
}

// ping sends through the relay to a peer and reports whether the echo arrived in
// time.
func (c *call) ping(to net.Addr, wait time.Duration) error {
	word := fmt.Appendf(nil, "ping %d", time.Now().UnixNano())
	buf := make([]byte, 2048)
	for end := time.Now().Add(wait); time.Now().Before(end); {
		if _, err := c.relay.WriteTo(word, to); err != nil {
			return err
		}
		require.NoError(c.t, c.relay.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
		for {
			n, _, err := c.relay.ReadFrom(buf)
			if err != nil {
				break
			}
			if bytes.Equal(buf[:n], word) {
				return nil
			}
		}
	}
	return fmt.Errorf("no echo from %s in %s", to, wait)
}
