package probe

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Clock is what the kernel knows of how well this machine's clock is set:
// chrony, ntpd and systemd-timesyncd tell it through adjtimex(2).
type Clock struct {
	// Synchronised is false where nobody sets the clock (STA_UNSYNC, TIME_ERROR).
	Synchronised bool
	// Bound is the most that the clock may be off (maxerror: half of the round
	// trip to the reference, its dispersion, and 500 ppm for the time since).
	Bound time.Duration
	// Estimate is how far off it is thought to be (esterror).
	Estimate time.Duration
}

// ReadClock asks the kernel. It needs no rights.
func ReadClock() (Clock, error) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return Clock{}, fmt.Errorf("probe: adjtimex: %w", err)
	}
	return Clock{
		Synchronised: state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0,
		Bound:        time.Duration(t.Maxerror) * time.Microsecond,
		Estimate:     time.Duration(t.Esterror) * time.Microsecond,
	}, nil
}

// BoundMs is Bound in milliseconds for a report's provenance, nil where nobody
// sets the clock. The offset of two machines is at most the sum of their bounds.
func (c Clock) BoundMs() *float64 {
	if !c.Synchronised {
		return nil
	}
	ms := float64(c.Bound) / float64(time.Millisecond)
	return &ms
}
