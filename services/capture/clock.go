package capture

import (
	"golang.org/x/sys/unix"

	"github.com/openova-io/bp-relay/services/format/manifest"
)

// hostClock asks the kernel whether the clock is synchronised (adjtimex(2),
// which needs no privilege to read). If it is not, or the call fails, there is
// no measured offset to state.
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
