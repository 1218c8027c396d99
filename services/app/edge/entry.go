package edge

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/anypb"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"

	"github.com/openova-io/bp-relay/services/app/edge/guard"
	"github.com/openova-io/bp-relay/services/internal/apierr"
	"github.com/openova-io/bp-relay/services/internal/auth"
	"github.com/openova-io/bp-relay/services/internal/rpc"
)

const (
	// maxURI bounds a request's path and query in bytes.
	maxURI = 8 << 10
	// bodyTimeout is how long a request's body may take to arrive, unless the
	// configuration says otherwise.
	bodyTimeout = 15 * time.Second
	// refusedBodyTimeout is how long the rest of a refused request's body may
	// take, before the connection is closed.
	refusedBodyTimeout = time.Second
	// lastWrite is how long an answer may still be written after its caller's
	// token has expired.
	lastWrite = 5 * time.Second
	// revokedWrite is the same after the token was revoked.
	revokedWrite = 500 * time.Millisecond
)

// entry lets requests in by their headers, as the gate does for native gRPC: the
// token of a call is verified before its body is read. Every body has a deadline.
type entry struct {
	next    http.Handler
	methods map[string]bool
	// enter is [rpc.Gate.Enter]; nil lets everything in.
	enter func(ctx context.Context, method string, authorization []string) (context.Context, *apierr.Error)
	// whileValid is [rpc.Gate.WhileValid]; nil if no token is ever revoked.
	whileValid func(ctx context.Context, revoked func()) (stop func())
	// body is how long a body may take to arrive.
	body time.Duration
}

func (e *entry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if len(r.RequestURI) > maxURI {
		e.refuse(w, r, apierr.New(codes.ResourceExhausted, errorsv1.Reason_REASON_REQUEST_TOO_LARGE, "the path and query are longer than 8 KiB; send less"))
		return
	}
	method, call := r.URL.Path, e.methods[r.URL.Path]
	if !call && strings.HasPrefix(r.URL.Path, "/v1/") {
		method, call = "/v1/", true // JSON: the transcoder knows the method
	}
	control := http.NewResponseController(w)
	if call && e.enter != nil {
		ctx, refusal := e.enter(r.Context(), method, r.Header["Authorization"])
		if refusal != nil {
			e.refuse(w, r, refusal)
			return
		}
		if until := auth.From(ctx).Expires; !until.IsZero() {
			// A client that does not read its stream cannot hold it open.
			_ = control.SetWriteDeadline(until.Add(lastWrite)) // an error: a test's writer
			defer func() { _ = control.SetWriteDeadline(time.Time{}) }()
			if e.whileValid != nil {
				defer e.whileValid(ctx, func() { _ = control.SetWriteDeadline(time.Now().Add(revokedWrite)) })()
			}
		}
		r = r.WithContext(ctx)
	}
	if !call || slices.ContainsFunc(OpenMethods(), func(open string) bool { return strings.HasPrefix(method, open) }) {
		release, ok := guard.Open(r.Context())
		if !ok {
			e.refuse(w, r, rpc.TooManyOpen())
			return
		}
		defer release()
	}
	if r.ContentLength != 0 && r.Body != nil {
		_ = control.SetReadDeadline(time.Now().Add(e.body)) // an error: a test's writer
		r.Body = &timedBody{ReadCloser: http.MaxBytesReader(nil, r.Body, rpc.MaxMessage+rpc.MaxHeaders), control: control}
	}
	e.next.ServeHTTP(w, r)
}

// refuse answers in the request's protocol without reading its body.
func (e *entry) refuse(w http.ResponseWriter, r *http.Request, refusal *apierr.Error) {
	if r.ContentLength != 0 {
		if r.ProtoMajor == 1 {
			w.Header().Set("Connection", "close") // else net/http waits for the body before it answers
		}
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(refusedBodyTimeout)) // an error: a test's writer
	}
	if !e.methods[r.URL.Path] {
		apierr.WriteHTTP(w, refusal)
		return
	}
	_ = connect.NewErrorWriter().Write(w, r, connectError(refusal)) // an error: the client went away
}

// connectError is the error as package connect writes it.
func connectError(e *apierr.Error) *connect.Error {
	ce := connect.NewError(connect.Code(e.Code()), errors.New(e.Message()))
	for _, d := range e.GRPCStatus().Proto().GetDetails() {
		if detail, err := connect.NewErrorDetail(&anypb.Any{TypeUrl: d.GetTypeUrl(), Value: d.GetValue()}); err == nil {
			ce.AddDetail(detail)
		}
	}
	return ce
}

// timedBody lifts the read deadline at the end of the body: the connection, or
// the stream, lives on.
type timedBody struct {
	io.ReadCloser
	control *http.ResponseController
}

func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		_ = b.control.SetReadDeadline(time.Time{}) // an error: the connection has ended
	}
	return n, err
}

// proven trusts the connection of a request that a plain route has accepted: it
// checks a proof of its own, such as a webhook's signature.
func proven(r *http.Request, status int) {
	if status/100 == 2 {
		guard.Judged(r.Context(), true)
	}
}
