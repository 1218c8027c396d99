package stacktest

import (
	"time"

	"go.uber.org/goleak"
)

// Leaks is goleak.Find with a wait of ten seconds instead of less than one:
// PeerConnections, TURN clients and abandoned HTTP dials take a while to end,
// above all on a loaded machine.
func Leaks(options ...goleak.Option) error {
	for deadline := time.Now().Add(10 * time.Second); ; {
		if err := goleak.Find(options...); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}
