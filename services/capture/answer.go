package capture

import (
	"errors"
	"time"

	"google.golang.org/grpc/codes"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"

	"github.com/openova-io/bp-relay/services/internal/apierr"
)

// Answer returns what a caller may know of an error of Open or Admits, and what to
// do: SPOOL_FULL for ErrSpoolFull. It names no other organisation. Any other error
// is returned as it is.
func Answer(err error) error {
	if !errors.Is(err, ErrSpoolFull) {
		return err
	}
	why := "the spool has no room, so nothing more can be recorded; try again once the object store has taken what is in it, or ask the operator for a larger spool"
	full, quota := errors.AsType[*FullError](err)
	switch {
	case quota && full.Cause == CauseOrg:
		why = "your organisation's recordings fill its part of the spool, so nothing more can be recorded; " +
			"try again once the object store has taken what is in it, or stop a recording"
	case errors.Is(err, ErrDiskFull):
		why = "the disk of the spool is full, so nothing can be recorded; ask the operator to make room on it"
	}
	return apierr.New(codes.FailedPrecondition, errorsv1.Reason_REASON_SPOOL_FULL, why).WithRetry(10 * time.Second).Because(err)
}
