// Package apierr defines the form of every error that a caller sees: a gRPC code,
// a reason from the public enum (relay.errors.v1), a message that says what to do
// next, and the variable parts of the message as metadata (google.rpc.ErrorInfo,
// AIP-193). Domain code returns its own typed errors or an *Error; FromDomain
// maps them at the edge.
package apierr

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"

	"github.com/openova-io/bp-relay/services/blob"
	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/records"
)

// Domain is ErrorInfo's domain in every error.
const Domain = "bp-relay"

// Error is an error that may be shown to callers.
type Error struct {
	code    codes.Code
	reason  errorsv1.Reason
	message string
	meta    map[string]string
	fields  []*errdetails.BadRequest_FieldViolation
	retry   time.Duration
	cause   error
}

// New makes an error. The message says what is wrong and what to do next; pairs
// are metadata: key, value, key, value...
func New(code codes.Code, reason errorsv1.Reason, message string, pairs ...string) *Error {
	e := &Error{code: code, reason: reason, message: message, meta: make(map[string]string, len(pairs)/2)}
	for i := 0; i+1 < len(pairs); i += 2 {
		e.meta[pairs[i]] = pairs[i+1]
	}
	return e
}

// Field makes a FIELD_INVALID about one field of the request.
func Field(field, what string) *Error {
	return New(codes.InvalidArgument, errorsv1.Reason_REASON_FIELD_INVALID, field+": "+what, "field", field).
		WithField(field, what)
}

// WithField adds a field violation.
func (e *Error) WithField(field, what string) *Error {
	e.fields = append(e.fields, &errdetails.BadRequest_FieldViolation{Field: field, Description: what})
	return e
}

// WithRetry adds the time after which a retry may succeed.
func (e *Error) WithRetry(after time.Duration) *Error {
	e.retry = after
	return e
}

// Because adds the cause, for errors.Is and the log; callers do not see it.
func (e *Error) Because(cause error) *Error {
	e.cause = cause
	return e
}

// Error returns the message and, for the log, the cause.
func (e *Error) Error() string {
	if e.cause != nil {
		return e.message + ": " + e.cause.Error()
	}
	return e.message
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

// Code is the gRPC code.
func (e *Error) Code() codes.Code { return e.code }

// Reason is the public reason.
func (e *Error) Reason() errorsv1.Reason { return e.reason }

// Message is what callers see.
func (e *Error) Message() string { return e.message }

// GRPCStatus returns the status with ErrorInfo and, if set, BadRequest and
// RetryInfo.
func (e *Error) GRPCStatus() *status.Status {
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{
		Reason:   ReasonName(e.reason),
		Domain:   Domain,
		Metadata: e.meta,
	}}
	if len(e.fields) > 0 {
		details = append(details, &errdetails.BadRequest{FieldViolations: e.fields})
	}
	if e.retry > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(e.retry)})
	}
	st, err := status.New(e.code, e.message).WithDetails(details...)
	if err != nil { // a detail cannot be marshalled
		return status.New(e.code, e.message)
	}
	return st
}

// ReasonName returns the reason without its enum prefix: "ROOM_NOT_FOUND".
func ReasonName(r errorsv1.Reason) string { return strings.TrimPrefix(r.String(), "REASON_") }

// ReasonOf returns the reason name in an error received over gRPC, or "".
func ReasonOf(err error) string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.Domain == Domain {
			return info.Reason
		}
	}
	return ""
}

// FromDomain maps any error to one that may be shown to callers. An unknown error
// becomes INTERNAL with a fixed message; its cause is for the log only.
func FromDomain(err error) *Error {
	var e *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e):
		return e
	case errors.Is(err, records.ErrUnavailable), errors.Is(err, records.ErrClosed): // may wrap the time-out of a connection
		return New(codes.Unavailable, errorsv1.Reason_REASON_RECORDS_UNAVAILABLE, "the records do not answer; try again with the same request_id").WithRetry(time.Second).Because(err)
	case errors.Is(err, context.Canceled):
		return New(codes.Canceled, errorsv1.Reason_REASON_CALL_CANCELLED, "the caller cancelled the call; a retry with the same request_id is safe").Because(err)
	case errors.Is(err, context.DeadlineExceeded):
		return New(codes.DeadlineExceeded, errorsv1.Reason_REASON_DEADLINE_EXCEEDED, "the deadline passed; a retry with the same request_id is safe").Because(err)
	case errors.Is(err, records.ErrRequestReused):
		return New(codes.InvalidArgument, errorsv1.Reason_REASON_REQUEST_ID_REUSED, "request_id was used before with other arguments; send a fresh UUID").Because(err)
	case errors.Is(err, records.ErrConflict):
		return New(codes.Aborted, errorsv1.Reason_REASON_ETAG_MISMATCH, "the resource has changed; read it again and retry with its new etag").Because(err)
	case errors.Is(err, records.ErrInvalid):
		return New(codes.InvalidArgument, errorsv1.Reason_REASON_FIELD_INVALID, "the resource is larger than a record may be, or is not valid text; send less").Because(err)
	case errors.Is(err, bus.ErrUnavailable), errors.Is(err, bus.ErrClosed):
		return New(codes.Unavailable, errorsv1.Reason_REASON_BUS_UNAVAILABLE, "the bus does not answer; try again with the same request_id").WithRetry(time.Second).Because(err)
	case errors.Is(err, blob.ErrLater):
		return New(codes.Unavailable, errorsv1.Reason_REASON_STORE_UNAVAILABLE, "the object store asks to try again later: it is busy, or brings the object back from cold storage; nothing was lost").WithRetry(time.Minute).Because(err)
	case errors.Is(err, blob.ErrRecalling):
		return New(codes.Unavailable, errorsv1.Reason_REASON_RECALLING, "the object is in cold storage and is being brought back; try again in a minute").WithRetry(time.Minute).Because(err)
	case errors.Is(err, blob.ErrUnavailable), errors.Is(err, blob.ErrDenied):
		return New(codes.Unavailable, errorsv1.Reason_REASON_STORE_UNAVAILABLE, "the object store does not answer; nothing was lost, try again later").WithRetry(5 * time.Second).Because(err)
	}
	if st, ok := status.FromError(err); ok {
		switch {
		case ReasonOf(err) != "":
			return fromStatus(st, err)
		case st.Code() == codes.Unimplemented:
			return New(st.Code(), errorsv1.Reason_REASON_SERVICE_NOT_HERE, "the process that was asked does not run a service that this call needs; ask the operator to check services and remote").Because(err)
		case st.Code() == codes.Unavailable:
			return New(st.Code(), errorsv1.Reason_REASON_SERVICE_UNAVAILABLE, "a service that this call needs does not answer; try again with the same request_id").Because(err)
		case st.Code() == codes.Canceled:
			return New(st.Code(), errorsv1.Reason_REASON_CALL_CANCELLED, "the call was cancelled before its answer; a retry with the same request_id is safe").Because(err)
		case st.Code() == codes.DeadlineExceeded:
			return New(st.Code(), errorsv1.Reason_REASON_DEADLINE_EXCEEDED, "the deadline passed before the answer; a retry with the same request_id is safe").Because(err)
		}
	}
	return New(codes.Internal, errorsv1.Reason_REASON_INTERNAL, "internal error; the operator's log has it under the request id").Because(err)
}

// fromStatus keeps the error answer of another relay service unchanged.
func fromStatus(st *status.Status, cause error) *Error {
	e := New(st.Code(), errorsv1.Reason_REASON_INTERNAL, st.Message()).Because(cause)
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			e.reason = errorsv1.Reason(errorsv1.Reason_value["REASON_"+d.Reason])
			e.meta = d.Metadata
		case *errdetails.BadRequest:
			e.fields = d.FieldViolations
		case *errdetails.RetryInfo:
			e.retry = d.RetryDelay.AsDuration()
		}
	}
	return e
}

// NotFound makes the NOT_FOUND of a named resource.
func NotFound(reason errorsv1.Reason, name string) *Error {
	return New(codes.NotFound, reason, fmt.Sprintf("%s does not exist; list the resources of its parent", name), "name", name)
}
