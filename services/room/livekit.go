package room

import (
	"errors"
	"time"

	"google.golang.org/grpc/codes"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"

	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/livekit"
)

// livekitError turns a failed call to LiveKit into what callers see.
func livekitError(err error) error {
	if err == nil || errors.Is(err, livekit.ErrRefused) {
		return err
	}
	return apierr.New(codes.Unavailable, errorsv1.Reason_REASON_LIVEKIT_UNAVAILABLE,
		"LiveKit does not answer; nothing was changed in the records, try again").
		WithRetry(2 * time.Second).Because(err)
}
