package capture

import (
	"errors"
	"fmt"
	"syscall"
)

// Errors that callers decide by; all are wrapped with %w.
var (
	// ErrSpoolFull: the spool has reached its bound, or the disk under it is
	// full. The object store has been away for long, or is slower than what is
	// recorded.
	ErrSpoolFull = errors.New("capture: spool is full")
	// ErrDisk: the disk under the spool fails.
	ErrDisk = errors.New("capture: spool disk error")
	// ErrTooLarge: one Append is larger than a segment (MaxAppend).
	ErrTooLarge = errors.New("capture: larger than a segment")
	// ErrClosed: the stream was closed, the capture is being sealed, or the
	// manager has stopped.
	ErrClosed = errors.New("capture: closed")
	// ErrSealed: the capture is sealed or being sealed, so it cannot go on.
	ErrSealed = errors.New("capture: sealed")
	// ErrNotSealed: the capture is still recording or being stored.
	ErrNotSealed = errors.New("capture: not sealed yet")
	// ErrActive: the capture is being recorded in this process already.
	ErrActive = errors.New("capture: is active")
	// ErrElsewhere: the capture's spool is not on this host, so it cannot go on
	// here. It can be sealed with what is stored: SealAbandoned.
	ErrElsewhere = errors.New("capture: its spool is on another host")
	// ErrErased: the capture's key was destroyed.
	ErrErased = errors.New("capture: erased")
	// ErrDamaged: a stored object is not the one that was recorded.
	ErrDamaged = errors.New("capture: stored bytes are not the recorded ones")
	// ErrInvalid: a name or another argument breaks its rule.
	ErrInvalid = errors.New("capture: invalid argument")
)

// diskError gives a system error of the spool the sentinel that callers know.
func diskError(doing string, err error) error {
	kind := ErrDisk
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG) {
		kind = ErrSpoolFull
	}
	return fmt.Errorf("%w: %s: %w", kind, doing, err)
}

// reasonOf is the reason of the gap that an error makes, without its details.
func reasonOf(err error) string {
	if errors.Is(err, ErrSpoolFull) {
		return "spool full"
	}
	return "spool disk error"
}
