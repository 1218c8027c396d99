package stacktest

import (
	"context"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Cable is the way from one process to a server. Three things can happen to it:
// it is cut, it hangs, or the next answer is lost. All of them end with Mend.
type Cable struct {
	ctx    context.Context //nolint:containedctx // the test's
	l      net.Listener
	server string
	wg     sync.WaitGroup

	mu     sync.Mutex
	state  cableState
	change chan struct{} // closed at each change of the state
	conns  map[net.Conn]bool
}

type cableState int

const (
	whole   cableState = iota
	cut                // connections are broken, and new ones end at once
	hanging            // nothing arrives any more, on either side, and no connection ends
	losing             // requests arrive; the first byte of an answer breaks its connection
)

// NewCable returns a cable to the server of a URL, and the URL through it.
func NewCable(t testing.TB, server string) (*Cable, string) {
	t.Helper()
	u, err := url.Parse(server)
	require.NoError(t, err)
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c := &Cable{ctx: t.Context(), l: l, server: u.Host, change: make(chan struct{}), conns: map[net.Conn]bool{}}
	c.wg.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			c.wg.Go(func() { c.carry(near) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		c.Cut()
		c.wg.Wait()
	})
	u.Host = l.Addr().String()
	return c, u.String()
}

// Cut breaks all connections. New ones end at once until Mend.
func (c *Cable) Cut() {
	c.set(cut)
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.conns {
		_ = conn.Close()
	}
}

// Hang stops all bytes in both directions, as a network does that drops packets:
// connections stay, new ones are accepted, and nothing arrives until Mend. Then
// what was sent meanwhile arrives late.
func (c *Cable) Hang() { c.set(hanging) }

// Lose breaks each connection when its server answers, until Mend: what was asked
// for happens, and the one who asked does not learn it.
func (c *Cable) Lose() { c.set(losing) }

// Mend makes the cable whole.
func (c *Cable) Mend() { c.set(whole) }

func (c *Cable) set(s cableState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = s
	close(c.change)
	c.change = make(chan struct{})
}

// passes waits while the cable hangs, and reports whether a byte may pass then.
func (c *Cable) passes(answer bool) bool {
	for {
		c.mu.Lock()
		s, change := c.state, c.change
		c.mu.Unlock()
		switch {
		case s == hanging:
			<-change
		case s == cut || s == losing && answer:
			return false
		default:
			return true
		}
	}
}

func (c *Cable) carry(near net.Conn) {
	defer func() { _ = near.Close() }()
	if !c.keep(near) {
		return
	}
	defer c.forget(near)
	if !c.passes(false) {
		return
	}
	far, err := new(net.Dialer).DialContext(c.ctx, "tcp", c.server)
	if err != nil {
		return
	}
	defer func() { _ = far.Close() }()
	if !c.keep(far) {
		return
	}
	defer c.forget(far)
	var both sync.WaitGroup
	copyTo := func(to, from net.Conn, answer bool) {
		defer func() { _ = to.Close() }()
		defer func() { _ = from.Close() }()
		buf := make([]byte, 32<<10)
		for {
			n, err := from.Read(buf)
			if n > 0 && !c.passes(answer) {
				return
			}
			if _, werr := to.Write(buf[:n]); werr != nil || err != nil {
				return
			}
		}
	}
	both.Go(func() { copyTo(far, near, false) })
	both.Go(func() { copyTo(near, far, true) })
	both.Wait()
}

// keep remembers a connection for Cut; false if the cable is cut.
func (c *Cable) keep(conn net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == cut {
		return false
	}
	c.conns[conn] = true
	return true
}

func (c *Cable) forget(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.conns, conn)
}
