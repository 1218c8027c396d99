package connection

import (
	"context"
	"errors"

	"github.com/openova-io/bp-relay/services/internal/change"
	"github.com/openova-io/bp-relay/services/records"
)

// States of a session's record.
const (
	pending = "PENDING" // its ticket was not used yet
	active  = "ACTIVE"  // its tunnel is connected
	ending  = "ENDING"  // its recording is being stored and sealed
	ended   = "ENDED"
)

// Verbs: what can happen to a session.
const (
	open       = "open"       // OpenSession
	start      = "start"      // its ticket was used
	lapse      = "lapse"      // its ticket will never be used
	renew      = "renew"      // RenewSession
	terminate  = "terminate"  // TerminateSession
	disconnect = "disconnect" // its tunnel closed and a recording remains to be sealed
	finish     = "finish"     // its tunnel closed and nothing was recorded
	interrupt  = "interrupt"  // its process died and a recording remains to be sealed
	seal       = "seal"       // its recording is sealed, or it never had one
	// interruptUnrecorded: its process died and nothing was recorded.
	interruptUnrecorded = "interrupt_unrecorded"
)

// states is the session's state table.
func states() change.Table {
	return change.Table{
		{From: "", Verb: open, To: pending, Event: "session.opened"},
		{From: pending, Verb: start, To: active, Event: "session.started"},
		{From: pending, Verb: lapse, To: ended, Event: "session.ended"},
		{From: pending, Verb: renew, To: pending, Event: "session.renewed"},
		{From: active, Verb: renew, To: active, Event: "session.renewed"},
		{From: ending, Verb: renew, To: ending},
		{From: ended, Verb: renew, To: ended},
		{From: pending, Verb: terminate, To: ended, Event: "session.terminated"},
		{From: active, Verb: terminate, To: ending, Event: "session.terminated"},
		{From: active, Verb: disconnect, To: ending, Event: "session.ended"},
		{From: active, Verb: finish, To: ended, Event: "session.ended"},
		{From: active, Verb: interrupt, To: ending, Event: "session.ended"},
		{From: active, Verb: interruptUnrecorded, To: ended, Event: "session.ended"},
		{From: ending, Verb: terminate, To: ending},
		{From: ending, Verb: disconnect, To: ending, Event: "session.ended"}, // after terminate
		{From: ending, Verb: finish, To: ended, Event: "session.ended"},      // the same, unrecorded
		{From: ending, Verb: seal, To: ended, Event: "session.sealed"},
		{From: ended, Verb: terminate, To: ended},
	}
}

// move applies a verb to a session. It fails with a *change.StateError if the
// session's state does not allow the verb.
func (s *Service) move(ctx context.Context, name string, step change.Step[session]) (records.Record, error) {
	return change.Run(ctx, s.cfg.Records, sessions(), states(), name, step)
}

// moveOn is move for changes that the relay makes itself: if the state does not
// allow the verb, another process was faster and there is nothing to do.
func (s *Service) moveOn(ctx context.Context, name string, step change.Step[session]) error {
	step.Actor = change.Relay
	_, err := s.move(ctx, name, step)
	if _, is := errors.AsType[*change.StateError](err); is {
		return nil
	}
	return err
}

// closed is the step after a session's tunnel closed, or will never open. It
// notes why and when, unless that is known already, since whoever terminated it
// was first, and takes the capture out of the record if nothing was recorded.
func closed(verb, reason string, detail map[string]any) change.Step[session] {
	return change.Step[session]{Verb: verb, Edit: func(d *session) any {
		d.noteEnd(reason)
		if verb != disconnect && verb != interrupt {
			d.Capture = ""
		}
		detail["reason"] = d.EndReason
		return detail
	}}
}
