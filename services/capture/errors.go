package capture

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/openova-io/bp-relay/services/format/manifest"
)

// Errors that callers decide by. All are wrapped.
var (
	// ErrSpoolFull: the spool takes no more bytes of this capture. The object store
	// has been unreachable for long, or is too slow. A FullError says which bound
	// was reached.
	ErrSpoolFull = errors.New("capture: spool is full")
	// ErrDiskFull: the spool's file system is full, below the spool's own bounds. It
	// is an ErrSpoolFull.
	ErrDiskFull = fmt.Errorf("%w: no space left on its disk", ErrSpoolFull)
	// ErrDisk: the spool's disk fails.
	ErrDisk = errors.New("capture: spool disk error")
	// ErrTooLarge: one Append is larger than a segment (MaxAppend).
	ErrTooLarge = errors.New("capture: larger than a segment")
	// ErrClosed: the stream was closed, the capture is being sealed, or the
	// manager has stopped.
	ErrClosed = errors.New("capture: closed")
	// ErrSealed: the capture is sealed or being sealed, so it cannot continue.
	ErrSealed = errors.New("capture: sealed")
	// ErrNotSealed: the capture is still recording or being stored.
	ErrNotSealed = errors.New("capture: not sealed yet")
	// ErrActive: this process is recording or sealing the capture.
	ErrActive = errors.New("capture: is active")
	// ErrElsewhere: the capture's spool is on another host, so it cannot
	// continue here. SealAbandoned can seal it with what is stored.
	ErrElsewhere = errors.New("capture: its spool is on another host")
	// ErrTaken: another process owns the capture now, or has sealed it.
	ErrTaken = errors.New("capture: taken over by another process")
	// ErrRecovering: the capture's spool is on this host and could not be read into
	// yet. It is tried again.
	ErrRecovering = errors.New("capture: its spool is not recovered yet")
	// ErrErased: the capture's key was destroyed.
	ErrErased = errors.New("capture: erased")
	// ErrDamaged: a stored object differs from what was recorded. It is
	// manifest.ErrDamaged, so that exports know it.
	ErrDamaged = manifest.ErrDamaged
	// ErrInvalid: a name or another argument breaks a rule.
	ErrInvalid = errors.New("capture: invalid argument")
)

// diskError wraps a system error of the spool with ErrDiskFull or ErrDisk. A transient error is neither: trying again may succeed.
func diskError(doing string, err error) error {
	if transient(err) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	kind := ErrDisk
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG) {
		kind = ErrDiskFull
	}
	return fmt.Errorf("%w: %s: %w", kind, doing, err)
}

// reasonOf is the reason of the gap that an error causes, without details.
func reasonOf(err error) string {
	switch {
	case errors.Is(err, ErrDiskFull):
		return "spool disk full"
	case errors.Is(err, ErrSpoolFull):
		return "spool full"
	}
	return "spool disk error"
}
