package tunnel

import (
	"encoding/base64"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/openova-io/bp-relay/services/connection/guac"
)

// guacdWriter is the one way to guacd: whole instructions, one writer at a
// time.
type guacdWriter struct {
	conn   net.Conn
	writes deadline
	idle   time.Duration // nop after so long without a word

	mu   sync.Mutex
	last time.Time
	dead bool
}

// send writes whole instructions.
func (g *guacdWriter) send(p []byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.write(p)
}

func (g *guacdWriter) write(p []byte) error {
	if g.dead {
		return net.ErrClosed
	}
	g.writes.arm()
	g.last = time.Now()
	if _, err := g.conn.Write(p); err != nil {
		g.dead = true
		return fmt.Errorf("write to guacd: %w", err)
	}
	return nil
}

// nop says that somebody is there, unless something was said lately.
func (g *guacdWriter) nop() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if time.Since(g.last) < g.idle {
		return nil
	}
	return g.write([]byte("3.nop;"))
}

// argv gives a parameter's value on a stream.
func (g *guacdWriter) argv(stream int, name, value string) error {
	index := strconv.Itoa(stream)
	buf, err := guac.Append(nil, "argv", index, "text/plain", name)
	if err == nil {
		buf, err = guac.Append(buf, "blob", index, base64.StdEncoding.EncodeToString([]byte(value)))
	}
	if err == nil {
		buf, err = guac.Append(buf, "end", index)
	}
	if err != nil {
		return fmt.Errorf("encode argv: %w", err)
	}
	return g.send(buf)
}

// goodbye tells guacd that this user leaves and lets no one write after. A
// writer that is stuck is waited for a quarter of farewell.
func (g *guacdWriter) goodbye() {
	g.writes.stop(farewell / 4)
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.dead {
		g.dead = true
		g.writes.stop(farewell / 4)
		_, _ = g.conn.Write([]byte("10.disconnect;")) // it may be gone already
	}
}
