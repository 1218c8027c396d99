package rpc

import (
	"context"
	"time"

	"google.golang.org/grpc/tap"

	optionsv1 "github.com/openova-io/bp-relay/gen/relay/options/v1"

	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
)

// Enter lets a call in, or not, by its headers alone: before a byte of its
// message is read. It verifies the token, waiting for the issuer if it must, and
// counts the call against the limits of its caller. The gate's interceptors do
// not repeat it for a call whose context is the one that Enter returned. method
// is "/package.Service/Method"; a method that needs no token passes.
func (g *Gate) Enter(ctx context.Context, method string, authorization []string) (context.Context, *apierr.Error) {
	if g.open(method) {
		return ctx, nil
	}
	ctx, refusal := g.enter(ctx, method, authorization)
	if refusal != nil {
		g.refused(ctx, method, refusal)
	}
	return ctx, refusal
}

func (g *Gate) enter(ctx context.Context, method string, authorization []string) (context.Context, *apierr.Error) {
	token, refusal := bearer(authorization)
	if refusal != nil {
		return ctx, refusal
	}
	who, err := g.Verifier.Verify(ctx, token)
	if err != nil {
		return ctx, TokenError(err)
	}
	return g.count(ctx, method, who)
}

// tap is Enter for grpc-go's own transport. It runs on the goroutine that reads
// the connection, so it does not wait for the issuer: if that must be asked, the
// interceptor verifies the token.
func (g *Gate) tap(ctx context.Context, info *tap.Info) (out context.Context, err error) {
	defer func() {
		if p := recover(); p != nil { // outside of the interceptors, it would end the process
			out, err = ctx, g.panicked(ctx, info.FullMethodName, requestID(ctx), p)
		}
	}()
	if g.open(info.FullMethodName) {
		return ctx, g.opened(ctx)
	}
	perm := g.Policy.Method(info.FullMethodName)
	if perm == optionsv1.Permission_PERMISSION_UNSPECIFIED { // grpc-go answers that the method is unknown, without reading its message
		return ctx, nil
	}
	if g.Policy.Streams(info.FullMethodName) {
		ctx = endable(ctx)
	}
	ctx, refusal := g.look(ctx, info)
	if refusal == nil {
		return ctx, nil
	}
	g.refused(ctx, info.FullMethodName, refusal)
	if g.Judged != nil {
		// grpc-go 1.85 keeps a context of each refused call until its connection
		// ends.
		g.Judged(ctx, false)
	}
	return ctx, refusal.GRPCStatus().Err()
}

// opened counts a call that needs no token until its end.
func (g *Gate) opened(ctx context.Context) error {
	if g.Opened == nil {
		return nil
	}
	release, ok := g.Opened(ctx)
	if !ok {
		return TooManyOpen().GRPCStatus().Err()
	}
	context.AfterFunc(ctx, release)
	return nil
}

// TooManyOpen is the answer to one call too many without a token.
func TooManyOpen() *apierr.Error {
	return limited(time.Second, "connection", "too many calls without a token run on this connection; wait for one of them to end")
}

// look is tap's part that may refuse.
func (g *Gate) look(ctx context.Context, info *tap.Info) (context.Context, *apierr.Error) {
	token, refusal := bearer(info.Header.Get("authorization"))
	if refusal != nil {
		return ctx, refusal
	}
	who, ok, err := g.Verifier.VerifyLocal(token)
	switch {
	case err != nil:
		return ctx, TokenError(err)
	case !ok:
		return ctx, nil
	}
	return g.count(ctx, info.FullMethodName, who)
}

// count counts the call of a verified caller, unless the token is revoked.
func (g *Gate) count(ctx context.Context, method string, who auth.Principal) (context.Context, *apierr.Error) {
	if g.Revocations != nil && g.Revocations.Revoked(who) {
		if g.Denied != nil {
			g.Denied(context.WithoutCancel(ctx), who, method, errRevoked)
		}
		return ctx, errRevoked
	}
	if g.Judged != nil {
		g.Judged(ctx, true)
	}
	if refusal := g.limits.take(who); refusal != nil {
		return ctx, refusal
	}
	return auth.With(ctx, who), nil
}

// refused counts and logs a call that did not come in.
func (g *Gate) refused(ctx context.Context, method string, e *apierr.Error) {
	g.Metrics.observe(method, e.Code(), 0)
	g.Logger.DebugContext(ctx, "call refused", "method", method, "code", e.Code().String(), "reason", apierr.ReasonName(e.Reason()))
}
