package tunnel

import (
	"errors"
	"net"

	"github.com/openova-io/bp-relay/services/connection/guac"
)

// Reason is why a session ended: a closed set, for records and metrics.
type Reason string

// The reasons.
const (
	ClientClosed    Reason = "client_closed"    // left, with or without a word
	ClientTimeout   Reason = "client_timeout"   // silent, or too slow for too long
	ClientViolation Reason = "client_violation" // sent what it may not
	TargetClosed    Reason = "target_closed"    // logged out
	TargetError     Reason = "target_error"     // guacd's "error"
	TargetLost      Reason = "target_lost"      // guacd went away or is silent
	TargetViolation Reason = "target_violation" // guacd broke the protocol
	RecordingFailed Reason = "recording_failed" // and it is required
	Terminated      Reason = "terminated"       // by somebody who may
	Expired         Reason = "expired"          // reached its longest duration
	Shutdown        Reason = "shutdown"         // the relay stops
)

// End is how a session ended. As the cause of a cancelled context it ends
// one.
type End struct {
	Reason Reason
	// Status goes to the browser in the close frame.
	Status guac.Status
	// Message goes to the browser in an "error" instruction before the close
	// frame, where it is not empty: what happened and what to do.
	Message string
	// Err is for the log, nil for an ordinary end.
	Err error
}

func (e *End) Error() string {
	if e.Err != nil {
		return "tunnel: " + string(e.Reason) + ": " + e.Err.Error()
	}
	return "tunnel: " + string(e.Reason)
}

// Unwrap returns the cause, if there is one.
func (e *End) Unwrap() error { return e.Err }

func timedOut(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}
