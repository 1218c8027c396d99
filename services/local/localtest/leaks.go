package localtest

import (
	"time"

	"go.uber.org/goleak"
)

// Leaks is goleak.Find that waits ten seconds instead of less than one:
// PeerConnections, TURN clients and HTTP dials that were given up end in their
// own time, and on a loaded machine that is not soon.
func Leaks(options ...goleak.Option) error {
	for end := time.Now().Add(10 * time.Second); ; {
		if err := goleak.Find(options...); err == nil || time.Now().After(end) {
			return err
		}
	}
}
