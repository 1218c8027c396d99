package capture

import (
	"golang.org/x/sys/unix"

	"github.com/openova-io/bp-relay/services/capture/manifest"
)

// hostClock asks the kernel whether the clock is disciplined (adjtimex(2)
// with no change: any user may). Where it is not, or cannot be asked, the
// manifest says so instead of stating an offset that nobody measured.
func hostClock() manifest.Clock {
	var tx unix.Timex
	state, err := unix.Adjtimex(&tx)
	if err != nil || state == unix.TIME_ERROR || tx.Status&unix.STA_UNSYNC != 0 {
		return manifest.Clock{Source: "unsynchronised"}
	}
	offset := tx.Offset
	if tx.Status&unix.STA_NANO != 0 {
		offset /= 1000
	}
	return manifest.Clock{Source: "adjtimex", OffsetMicros: offset, MaxErrorMicros: tx.Maxerror}
}
