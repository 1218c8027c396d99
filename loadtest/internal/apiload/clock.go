package apiload

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

// kernelTimer is the last part of a wait, which uses the kernel's timer: in an
// idle process, Go's timers fire up to 1 ms late (epoll_wait counts in ms), which
// is as long as a call takes.
const kernelTimer = 2 * time.Millisecond

// until waits for a point in time, to about a tenth of a millisecond. It
// returns false if ctx ends first.
func until(ctx context.Context, at time.Time) bool {
	if wait := time.Until(at) - kernelTimer; wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return false
		}
	}
	if wait := time.Until(at); wait > 0 {
		left := unix.NsecToTimespec(int64(wait))
		// If a signal interrupts it, it returns less than 2 ms early.
		_ = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &left, nil)
	}
	return ctx.Err() == nil
}
