package apiload

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

// fine is from where on a wait is made by the kernel's own timer: Go's timers
// wake up to 1 ms late where the process is idle (epoll_wait counts in ms),
// which is as much as a call takes.
const fine = 2 * time.Millisecond

// until waits for a moment, to a tenth of a millisecond or so; false when ctx
// ended before.
func until(ctx context.Context, at time.Time) bool {
	if wait := time.Until(at) - fine; wait > 0 {
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
		// Interrupted by a signal it comes back too early, by less than 2 ms.
		_ = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &left, nil)
	}
	return ctx.Err() == nil
}
