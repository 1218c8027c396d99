package tunnel

import (
	"sync"
	"time"
)

// deadline moves a connection's deadline forward without a timer's work per
// message: it is set again only when a sixteenth of ahead has passed, and so
// lies between ahead and that much more. After stop it moves no more.
type deadline struct {
	set     func(time.Time) error
	ahead   time.Duration
	mu      sync.Mutex
	at      time.Time
	stopped bool
}

func (d *deadline) arm() {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped || now.Sub(d.at) < d.ahead/16 {
		return
	}
	d.at = now
	_ = d.set(now.Add(d.ahead + d.ahead/16)) // a closed connection says so itself
}

// stop ends what waits on the connection in so long at the latest.
func (d *deadline) stop(in time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopped = true
	_ = d.set(time.Now().Add(in))
}
