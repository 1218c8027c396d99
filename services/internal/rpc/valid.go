package rpc

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"

	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
)

var (
	// errEnds is why the context of a stream ends when its token does.
	errEnds = apierr.New(codes.Unauthenticated, errorsv1.Reason_REASON_TOKEN_EXPIRED,
		"the token has expired, and the stream ends with it; get a new token and call again from where you are")
	// errRevoked refuses a call, and is why the context of a stream ends.
	errRevoked = apierr.New(codes.Unauthenticated, errorsv1.Reason_REASON_TOKEN_REVOKED,
		"the token was revoked by an administrator of your organisation; ask them")
)

type endKey struct{}

// endable returns a context that whileValid can end. The transport's own waits
// end with the context that the tap returns and with no later one: so a client
// that reads nothing cannot hold a stream open.
func endable(ctx context.Context) context.Context {
	ctx, end := context.WithCancelCause(ctx)
	return context.WithValue(ctx, endKey{}, end)
}

// whileValid returns a context that ends when the caller's token expires or is
// revoked.
func (g *Gate) whileValid(ctx context.Context, who auth.Principal) (context.Context, context.CancelFunc) {
	end, ok := ctx.Value(endKey{}).(context.CancelCauseFunc)
	if !ok {
		ctx, end = context.WithCancelCause(ctx)
	}
	stop := func() bool { return true }
	if !who.Expires.IsZero() {
		stop = time.AfterFunc(time.Until(who.Expires), func() { end(errEnds) }).Stop
	}
	unwatch := func() {}
	if g.Revocations != nil {
		unwatch = g.Revocations.Watch(who, func() { end(errRevoked) })
	}
	return ctx, func() {
		stop()
		unwatch()
		if !ok {
			end(nil)
		}
	}
}

// endedBy returns why the stream's context was ended instead of err, if that is
// the end of its token.
func endedBy(ctx context.Context, err error) error {
	for _, why := range []*apierr.Error{errEnds, errRevoked} {
		if err != nil && errors.Is(context.Cause(ctx), why) {
			return why
		}
	}
	return err
}

// Identify returns whose token the authorization headers have. It counts nothing:
// it is for requests that have a proof of their own, such as a tunnel's ticket.
func (g *Gate) Identify(ctx context.Context, authorization []string) (auth.Principal, *apierr.Error) {
	token, refusal := bearer(authorization)
	if refusal != nil {
		return auth.Principal{}, refusal
	}
	who, err := g.Verifier.Verify(ctx, token)
	switch {
	case err != nil:
		return auth.Principal{}, TokenError(err)
	case g.Revocations != nil && g.Revocations.Revoked(who):
		return auth.Principal{}, errRevoked
	}
	return who, nil
}

// WhileValid calls revoked once if the token of the caller in ctx is revoked
// before stop is called. After stop has returned, revoked does not run.
func (g *Gate) WhileValid(ctx context.Context, revoked func()) (stop func()) {
	who := auth.From(ctx)
	if g.Revocations == nil || who.Org == "" {
		return func() {}
	}
	return g.Revocations.Watch(who, revoked)
}
