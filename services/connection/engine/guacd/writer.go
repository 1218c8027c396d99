package guacd

import (
	"encoding/base64"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/openova-io/bp-relay/services/connection/guac"
	"github.com/openova-io/bp-relay/services/connection/internal/deadline"
	"github.com/openova-io/bp-relay/services/connection/tunnel"
)

// writer sends whole instructions to guacd. It is the only one that does, and
// safe for concurrent use.
type writer struct {
	conn   net.Conn
	writes deadline.Deadline
	idle   time.Duration // the silence after which nop sends

	mu   sync.Mutex
	last time.Time
	dead bool
}

// send writes whole instructions.
func (w *writer) send(p []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.write(p)
}

func (w *writer) write(p []byte) error {
	if w.dead {
		return net.ErrClosed
	}
	w.writes.Arm()
	w.last = time.Now()
	if _, err := w.conn.Write(p); err != nil {
		w.dead = true
		return fmt.Errorf("write to guacd: %w", err)
	}
	return nil
}

// nop keeps guacd from giving up on a silent user. It sends nothing if
// something was sent within idle.
func (w *writer) nop() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Since(w.last) < w.idle {
		return nil
	}
	return w.write([]byte("3.nop;"))
}

// argv sends a parameter's value on a stream.
func (w *writer) argv(stream int, name, value string) error {
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
	return w.send(buf)
}

// goodbye tells guacd that this user leaves, and refuses later writes. It
// waits at most a quarter of tunnel.Farewell for a writer that is stuck.
func (w *writer) goodbye() {
	w.writes.Stop(tunnel.Farewell / 4)
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.dead {
		w.dead = true
		w.writes.Stop(tunnel.Farewell / 4)
		_, _ = w.conn.Write([]byte("10.disconnect;")) // guacd may have gone already
	}
}
