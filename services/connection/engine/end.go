package engine

import "fmt"

// Reason is why a session ended or was refused: a closed set, for records and
// metrics. Each engine translates it for its clients.
type Reason string

// Reasons of the end of a session.
const (
	ClientClosed    Reason = "client_closed"    // the client left, with or without a goodbye
	ClientTimeout   Reason = "client_timeout"   // the client was silent or too slow for too long
	ClientViolation Reason = "client_violation" // the client broke the protocol or its rules
	TargetClosed    Reason = "target_closed"    // the person logged out
	TargetError     Reason = "target_error"     // the target, or the way to it, reported an error
	TargetLost      Reason = "target_lost"      // the target disconnected or is silent
	TargetViolation Reason = "target_violation" // the target's side broke the protocol
	TargetSilent    Reason = "target_silent"    // it accepted the connection and never showed anything
	Unavailable     Reason = "target_unavailable"
	// Unreachable is the one answer for every failure to reach the target: no such
	// name, an address that is not allowed, nothing that answers there.
	Unreachable     Reason = "target_unreachable"
	Crashed         Reason = "engine_crashed"   // the engine's own process for this session died
	Stranger        Reason = "stranger_joined"  // somebody took part whom the relay did not let in
	RecordingFailed Reason = "recording_failed" // and the recording is required
	Terminated      Reason = "terminated"       // by TerminateSession
	Expired         Reason = "expired"          // it reached its longest duration
	Revoked         Reason = "revoked"          // the token with which it was opened or renewed was revoked
	Shutdown        Reason = "shutdown"         // the relay stops
)

// Reasons of a refusal: there was no session.
const (
	Busy           Reason = "busy"               // the relay is stopping
	NotReadable    Reason = "records_unreadable" // records or bus do not answer
	NoConnection   Reason = "connection_deleted"
	NotServed      Reason = "protocol_not_served" // the engine does not serve the target's protocol
	Conflict       Reason = "session_conflict"    // the session is over or has its tunnel
	TicketInvalid  Reason = "ticket_invalid"
	TicketMismatch Reason = "ticket_mismatch" // of another session or another person
)

// End is how a session ended. As the cause of a cancelled context it ends one.
type End struct {
	Reason Reason
	// Message tells the person what happened and what to do; "" after an
	// ordinary end.
	Message string
	// Err is for the log; nil after an ordinary end.
	Err error
	// Status is the engine's own status code, for the log and the evidence. The
	// engine sets it; if nil, the engine derives it from Reason. It is never
	// nil in a Result.
	Status fmt.Stringer
}

// RecordingFailure is the end of a running session whose required recording
// failed with err.
func RecordingFailure(err error) *End {
	return &End{Reason: RecordingFailed, Err: err,
		Message: "This session must be recorded and the recording failed. Open a new session, or tell the operator."}
}

func (e *End) Error() string {
	if e.Err != nil {
		return "session " + string(e.Reason) + ": " + e.Err.Error()
	}
	return "session " + string(e.Reason)
}

// Unwrap returns the cause, if there is one.
func (e *End) Unwrap() error { return e.Err }
