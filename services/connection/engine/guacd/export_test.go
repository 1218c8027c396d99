package guacd

import (
	"context"
	"net"
	"time"

	"github.com/openova-io/bp-relay/services/connection/guac"
)

// SetTimes shortens the session's limits, so that tests need not wait.
func (s *Session) SetTimes(keepAlive, read, write time.Duration) {
	s.times = times{keepAlive: keepAlive, read: read, write: write}
}

// Open is open.
func (e *Engine) Open(ctx context.Context, o guac.Opening) (net.Conn, guac.Opened, error) {
	return e.open(ctx, o)
}
