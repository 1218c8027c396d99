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
	"github.com/openova-io/bp-relay/services/store"
)

// What a part that is away means to a caller is UNAVAILABLE, not our fault;
// what nobody knows is INTERNAL, and its text stays in the log.
func TestFromDomain(t *testing.T) {
	for err, want := range map[error]string{
		bus.ErrUnavailable:       "Unavailable RECORDS_UNAVAILABLE",
		bus.ErrClosed:            "Unavailable RECORDS_UNAVAILABLE",
		store.ErrClosed:          "Unavailable RECORDS_UNAVAILABLE",
		store.ErrConflict:        "Aborted ETAG_MISMATCH",
		store.ErrRequestReused:   "InvalidArgument REQUEST_ID_REUSED",
		blob.ErrUnavailable:      "Unavailable STORE_UNAVAILABLE",
		context.DeadlineExceeded: "DeadlineExceeded CALL_ENDED",
		errors.New("password=1"): "Internal INTERNAL",
	} {
		e := apierr.FromDomain(fmt.Errorf("doing: %w", err))
		require.Equal(t, want, e.Code().String()+" "+apierr.ReasonName(e.Reason()))
		require.NotContains(t, e.GRPCStatus().Message(), "password")
		require.ErrorIs(t, e, err)
	}
	require.Nil(t, apierr.FromDomain(nil))
}
