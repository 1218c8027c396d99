package probe

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Clock is the kernel's estimate of this machine's clock error, which chrony,
// ntpd and systemd-timesyncd set through adjtimex(2).
type Clock struct {
	// Synchronised is false if nothing disciplines the clock (STA_UNSYNC,
	// TIME_ERROR).
	Synchronised bool
	// Bound is the maximum error of the clock (maxerror: half of the round trip to
	// the reference, its dispersion, and 500 ppm of the time since).
	Bound time.Duration
	// Estimate is its estimated error (esterror).
	Estimate time.Duration
}

// ReadClock reads the clock's state from the kernel. It needs no privileges.
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

// BoundMs is Bound in milliseconds for a report's provenance, nil if nothing
// disciplines the clock. The offset between two machines is at most the sum of
// their bounds.
func (c Clock) BoundMs() *float64 {
	if !c.Synchronised {
		return nil
	}
	ms := float64(c.Bound) / float64(time.Millisecond)
	return &ms
}
