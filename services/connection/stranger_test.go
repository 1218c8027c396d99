package connection_test

import (
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	connectionv1 "github.com/openova-io/bp-relay/gen/relay/connection/v1"

	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/connection"
	"github.com/openova-io/bp-relay/services/connection/guac"
)

// wiretap passes everything on to guacd and keeps what it hears.
func wiretap(t *testing.T, to string) (address string, heard func() string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var mu sync.Mutex
	var all strings.Builder
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", to)
			if err != nil {
				_ = c.Close()
				continue
			}
			wg.Go(func() { _, _ = io.Copy(up, c); _ = up.Close() })
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				buf := make([]byte, 4096)
				for {
					n, err := up.Read(buf)
					mu.Lock()
					all.Write(buf[:n])
					mu.Unlock()
					if _, werr := c.Write(buf[:n]); err != nil || werr != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return l.Addr().String(), func() string {
		mu.Lock()
		defer mu.Unlock()
		return all.String()
	}
}

// Somebody joins a session at guacd's own port, by its id. The id is in nothing that
// relay writes, and the session ends when they move the mouse.
func TestAStrangerAtGuacdsPort(t *testing.T) {
	r := newRig(t)
	at, heard := wiretap(t, r.guacd.Address)
	p := r.start(func(c *connection.Config, _ *capture.Config) { c.Engines = r.engines(at) })
	d, name := r.up(p, r.define(p, "shell"))
	id := regexp.MustCompile(`5\.ready,37\.(\$[0-9a-f-]{36});`).FindStringSubmatch(heard())
	require.NotNil(t, id)
	joined, err := net.Dial("tcp", r.guacd.Address)
	require.NoError(t, err)
	defer func() { _ = joined.Close() }()
	_, err = guac.Handshake(joined, guac.Opening{Select: id[1], Screen: guac.Screen{Width: 800, Height: 600, DPI: 96}})
	require.NoError(t, err)
	_, err = joined.Write([]byte(instruction("mouse", "10", "10", "0")))
	require.NoError(t, err)
	status, told := d.closed()
	require.Equal(t, guac.SessionConflict, status)
	require.Contains(t, told, "Somebody joined")
	over := r.session(p, name, connectionv1.Session_STATE_ENDED)
	require.Equal(t, "stranger_joined", over.GetEndReason())
	info, err := p.captures.Get(t.Context(), over.GetCapture())
	require.NoError(t, err)
	require.NotNil(t, info.Manifest)
	require.NotContains(t, r.log.String(), id[1])
	for _, l := range r.leaves(name) {
		require.NotContains(t, string(l.Opening), id[1])
	}
}
