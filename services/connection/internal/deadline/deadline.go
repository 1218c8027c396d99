// Package deadline keeps a connection's deadline ahead of the present without
// a system call per message.
package deadline

import (
	"sync"
	"time"
)

// Deadline moves a connection's read or write deadline forward. It sets the
// deadline again only after a sixteenth of Ahead has passed, so a wait is cut
// off between Ahead and 17/16 of Ahead after the last Arm. It is safe for
// concurrent use.
type Deadline struct {
	// Set is the connection's SetReadDeadline or SetWriteDeadline.
	Set func(time.Time) error
	// Ahead is how long a wait may last.
	Ahead time.Duration

	mu      sync.Mutex
	at      time.Time
	stopped bool
}

// Arm moves the deadline forward. It does nothing after Stop.
func (d *Deadline) Arm() {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped || now.Sub(d.at) < d.Ahead/16 {
		return
	}
	d.at = now
	_ = d.Set(now.Add(d.Ahead + d.Ahead/16)) // a closed connection reports itself
}

// Stop cuts off whatever waits on the connection after in at the latest. A
// later Stop replaces the limit.
func (d *Deadline) Stop(in time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopped = true
	_ = d.Set(time.Now().Add(in)) // see above
}
