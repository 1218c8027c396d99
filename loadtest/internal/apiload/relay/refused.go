package relay

import (
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// RefusedError is returned if a load was not started because the API refused
// its first calls. Its text says what to do.
type RefusedError struct {
	// Call is the refused call: "create a room".
	Call string
	// Code is the gRPC status.
	Code codes.Code
	// Do is the remedy.
	Do  string
	Err error
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("relay: %s: %s (%s). No load was sent. %s", e.Call, Message(e.Err), e.Code, e.Do)
}

// Unwrap returns the API's error.
func (e *RefusedError) Unwrap() error { return e.Err }

// Refused wraps the error of a call made before the load; it returns nil for
// nil.
func (t Target) Refused(call string, err error) error {
	if err == nil {
		return nil
	}
	e := &RefusedError{Call: call, Code: status.Code(err), Err: err}
	switch e.Code {
	case codes.Unauthenticated:
		e.Do = "Get a fresh token for " + t.Address + " and put it into the variable that target.api.token_env names (RELAY_TOKEN); with `make up`: export RELAY_TOKEN=$(bin/relay-dev token)."
	case codes.PermissionDenied:
		e.Do = "Use a token of organisation " + t.Org + " with the role relay-admin, or with those that the load's calls need: relay-backend for rooms and recordings, relay-operator for sessions."
	case codes.Unavailable, codes.DeadlineExceeded:
		e.Do = "Check that a relay runs at " + t.Address + " (make up), that target.api.address names it, and that target.api.tls matches the server."
	case codes.ResourceExhausted:
		e.Do = "The relay has reached a limit: wait, or raise the limit that its message names."
	default:
		e.Do = "Correct the scenario, or read the log of the relay at " + t.Address + "."
	}
	return e
}

// Message returns the text of an error without the prefix that gRPC adds.
func Message(err error) string {
	if st, ok := status.FromError(err); ok {
		return st.Message()
	}
	return err.Error()
}

// Kind returns an error's kind for a tally: the gRPC status and, if relay gave
// one, its reason: "Unavailable", "ResourceExhausted RATE_LIMITED".
func Kind(err error) string {
	st, ok := status.FromError(err)
	if !ok {
		return "error"
	}
	for _, d := range st.Details() {
		if info, is := d.(*errdetails.ErrorInfo); is && info.GetReason() != "" {
			return st.Code().String() + " " + info.GetReason()
		}
	}
	return st.Code().String()
}
