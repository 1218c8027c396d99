package rpc

import (
	"errors"
	"time"

	"google.golang.org/grpc/codes"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"

	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/limit"
)

// Limits bound the calls that one process accepts, per second, by whom they are
// made. A second's worth may come at once. 0 means no limit. Calls between relay
// services are not counted: they follow from calls that are.
type Limits struct {
	Subject, Org int
}

// limiter counts calls. It is safe for concurrent use.
type limiter struct {
	subjects *limit.Limiter[caller]
	orgs     *limit.Limiter[string]
}

// caller is one subject of an organisation.
type caller struct{ org, subject string }

func newLimiter(l Limits) (*limiter, error) {
	subjects, err := limit.New[caller](l.Subject, time.Second)
	orgs, err2 := limit.New[string](l.Org, time.Second)
	return &limiter{subjects: subjects, orgs: orgs}, errors.Join(err, err2)
}

// take counts one call. It returns RATE_LIMITED with RetryInfo if the caller or
// its organisation has made too many.
func (l *limiter) take(who auth.Principal) *apierr.Error {
	if who.Service {
		return nil
	}
	if wait := l.subjects.Take(caller{who.Org, who.Subject}); wait > 0 {
		return limited(wait, "subject", "you make too many calls; wait as RetryInfo says")
	}
	if wait := l.orgs.Take(who.Org); wait > 0 {
		return limited(wait, "organisation", "your organisation makes too many calls; wait as RetryInfo says")
	}
	return nil
}

func limited(wait time.Duration, what, message string) *apierr.Error {
	return apierr.New(codes.ResourceExhausted, errorsv1.Reason_REASON_RATE_LIMITED, message, "limit", what).WithRetry(wait)
}
