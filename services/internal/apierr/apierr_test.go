package apierr_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/blob"
	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/records"
)

// A part that does not answer is UNAVAILABLE to a caller. An unknown error is
// INTERNAL, and its text stays in the log.
func TestFromDomain(t *testing.T) {
	for err, want := range map[error]string{
		bus.ErrUnavailable:       "Unavailable BUS_UNAVAILABLE",
		bus.ErrClosed:            "Unavailable BUS_UNAVAILABLE",
		records.ErrClosed:        "Unavailable RECORDS_UNAVAILABLE",
		records.ErrUnavailable:   "Unavailable RECORDS_UNAVAILABLE",
		records.ErrConflict:      "Aborted ETAG_MISMATCH",
		records.ErrRequestReused: "InvalidArgument REQUEST_ID_REUSED",
		blob.ErrUnavailable:      "Unavailable STORE_UNAVAILABLE",
		context.DeadlineExceeded: "DeadlineExceeded DEADLINE_EXCEEDED",
		context.Canceled:         "Canceled CALL_CANCELLED",
		errors.Join(records.ErrUnavailable, context.DeadlineExceeded): "Unavailable RECORDS_UNAVAILABLE",
		errors.New("password=1"): "Internal INTERNAL",
	} {
		e := apierr.FromDomain(fmt.Errorf("doing: %w", err))
		require.Equal(t, want, e.Code().String()+" "+apierr.ReasonName(e.Reason()))
		require.NotContains(t, e.GRPCStatus().Message(), "password")
		require.ErrorIs(t, e, err)
	}
	require.Nil(t, apierr.FromDomain(nil))
}
