package rpc

import (
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"

	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
)

// maxCallers bounds how many callers are counted at once; the one that called
// the longest time ago is forgotten first.
const maxCallers = 16384

// Limits bound the calls that one process accepts, per second, by whom they are
// made. A second's worth may come at once. 0 means no limit. Calls between relay
// services are not counted: they follow from calls that are.
type Limits struct {
	Subject, Org int
}

// limiter counts calls. It is safe for concurrent use.
type limiter struct {
	Limits
	callers *lru.Cache[caller, *rate.Limiter]
}

// caller is whose calls are counted: one subject, or with an empty subject the
// whole organisation.
type caller struct{ org, subject string }

func newLimiter(l Limits) (*limiter, error) {
	callers, err := lru.New[caller, *rate.Limiter](maxCallers)
	return &limiter{Limits: l, callers: callers}, err
}

// take counts one call. It returns RATE_LIMITED with RetryInfo if the caller or
// its organisation has made too many.
func (l *limiter) take(who auth.Principal) *apierr.Error {
	if who.Service {
		return nil
	}
	if wait := l.use(caller{who.Org, who.Subject}, l.Subject); wait > 0 {
		return limited(wait, "subject", "you make too many calls; wait as RetryInfo says")
	}
	if wait := l.use(caller{org: who.Org}, l.Org); wait > 0 {
		return limited(wait, "organisation", "your organisation makes too many calls; wait as RetryInfo says")
	}
	return nil
}

// use counts one call, or returns how long to wait until one is free.
func (l *limiter) use(c caller, perSecond int) time.Duration {
	if perSecond <= 0 {
		return 0
	}
	bucket, ok := l.callers.Get(c)
	if !ok {
		bucket = rate.NewLimiter(rate.Limit(perSecond), perSecond)
		if before, had, _ := l.callers.PeekOrAdd(c, bucket); had {
			bucket = before
		}
	}
	if bucket.Allow() {
		return 0
	}
	return max(time.Millisecond, time.Duration((1-bucket.Tokens())/float64(perSecond)*float64(time.Second)))
}

func limited(wait time.Duration, what, message string) *apierr.Error {
	return apierr.New(codes.ResourceExhausted, errorsv1.Reason_REASON_RATE_LIMITED, message, "limit", what).WithRetry(wait)
}
