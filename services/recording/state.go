package recording

import (
	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"

	"github.com/openova-io/bp-relay/services/internal/change"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/records"
)

// recordings is the type of the resource. A record's parent is the room.
func recordings() resource.Type {
	return resource.Type{
		Kind: records.Recordings, Pattern: "orgs/{org}/recordings/{recording}", Missing: errorsv1.Reason_REASON_RECORDING_NOT_FOUND,
	}
}

// States of a recording's record, as in the proto.
const (
	stateStarting = "STARTING"
	stateActive   = "ACTIVE"
	stateStopping = "STOPPING"
	stateStored   = "STORED"
	stateFailed   = "FAILED"
)

// Verbs on a recording.
const (
	start    = "start"
	activate = "activate" // the recorder has joined the room
	stop     = "stop"     // the recorder leaves, or has left
	store    = "store"    // the capture is sealed and stored
	fail     = "fail"     // nothing was recorded
)

// states is the recording's state table. A recording never goes back, and never
// leaves STORED and FAILED. A verb whose state is reached already changes
// nothing: a process that does not know whether its change was committed
// repeats it.
func states() change.Table {
	return change.Table{
		{From: "", Verb: start, To: stateStarting, Event: "recording.starting"},
		{From: stateStarting, Verb: activate, To: stateActive, Event: "recording.active"},
		{From: stateActive, Verb: activate, To: stateActive},
		{From: stateStarting, Verb: stop, To: stateStopping, Event: "recording.stopping"},
		{From: stateActive, Verb: stop, To: stateStopping, Event: "recording.stopping"},
		{From: stateStopping, Verb: stop, To: stateStopping},
		{From: stateStopping, Verb: store, To: stateStored, Event: "recording.stored"},
		{From: stateStored, Verb: store, To: stateStored},
		{From: stateStarting, Verb: fail, To: stateFailed, Event: "recording.failed"},
		{From: stateStopping, Verb: fail, To: stateFailed, Event: "recording.failed"}, // stopped before it was active
		{From: stateFailed, Verb: fail, To: stateFailed},
	}
}

// running are the states in which a recorder is, or should be, in the room.
func running() []string { return []string{stateStarting, stateActive} }

// unfinished are the states in which work remains.
func unfinished() []string { return append(running(), stateStopping) }
