package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/openova-io/bp-relay/services/blob"
)

// Errors that only this package decides by.
var (
	errPrecondition = errors.New("s3: precondition failed")     // 412: the key exists
	errConflict     = errors.New("s3: conflict")                // 409
	errGarbled      = errors.New("s3: bytes did not arrive")    // the server's digest differs
	errTimeout      = errors.New("s3: no answer in time")       // the deadline of one attempt
	errStillThere   = errors.New("s3: delete left the object")  // 204, yet HEAD finds it
	errForeign      = errors.New("s3: bucket of another owner") // 409 on create, 403 on HEAD
)

// typed adds to err the blob error that callers decide by. It decides by types,
// statuses and S3 error codes, never by text. ctx is the caller's: if it has
// ended, typed reports that and not a fault of the store.
func typed(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	if kind := kindOf(err); kind != nil {
		return fmt.Errorf("%w: %w", kind, err)
	}
	return err
}

func kindOf(err error) error {
	code := ""
	if api, is := errors.AsType[smithy.APIError](err); is {
		code = api.ErrorCode()
	}
	switch code {
	case "InvalidObjectState":
		// GetObject of an archived object. Its status is 403, so check this first.
		return blob.ErrRecalling
	case "BadDigest", "InvalidDigest", "IncompleteBody", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch",
		"BadRequest": // SeaweedFS 4.53 says so of bytes that do not have the signed hash
		return errGarbled
	case "RequestTimeout", "SlowDown":
		return blob.ErrUnavailable
	}
	if resp, is := errors.AsType[*smithyhttp.ResponseError](err); is {
		return kindOfStatus(resp.HTTPStatusCode())
	}
	if noAnswer(err) {
		return blob.ErrUnavailable
	}
	return nil
}

func kindOfStatus(status int) error {
	switch {
	case status == http.StatusNotFound:
		return blob.ErrNotFound
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return blob.ErrDenied
	case status == http.StatusPreconditionFailed:
		return errPrecondition
	case status == http.StatusConflict:
		return errConflict
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status >= 500:
		return blob.ErrUnavailable
	case status < 300:
		// A success whose body could not be read to the end.
		return blob.ErrUnavailable
	}
	return nil
}

// noAnswer reports whether the request ended without an HTTP answer, so that it
// may or may not have been executed.
func noAnswer(err error) bool {
	var send *smithyhttp.RequestSendError
	var canceled *smithy.CanceledError
	var netErr net.Error
	return errors.As(err, &send) || errors.As(err, &canceled) || errors.As(err, &netErr) ||
		errors.Is(err, errTimeout) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, context.DeadlineExceeded)
}

// retryAfter reports whether err is a 503 with Retry-After: so SeaweedFS from 4.35
// answers while it fetches a cold object (pull 9988), and so any server or proxy
// answers that is busy. Only InvalidObjectState says that an object is cold.
func retryAfter(err error) bool {
	var resp *smithyhttp.ResponseError
	return errors.As(err, &resp) && resp.HTTPStatusCode() == http.StatusServiceUnavailable &&
		resp.Response != nil && resp.Response.Header.Get("Retry-After") != ""
}

// transient reports whether the same request may succeed within seconds.
func transient(err error) bool {
	return errors.Is(err, blob.ErrUnavailable) || errors.Is(err, errGarbled)
}
