package recording

import "fmt"

// state is how far a recording is; the word in its record.
type state string

// The states, as in the proto.
const (
	stateStarting state = "STARTING"
	stateActive   state = "ACTIVE"
	stateStopping state = "STOPPING"
	stateStored   state = "STORED"
	stateFailed   state = "FAILED"
)

func states() []state {
	return []state{stateStarting, stateActive, stateStopping, stateStored, stateFailed}
}

// running are the states in which a recorder is, or ought to be, in the room.
func running() []string { return []string{string(stateStarting), string(stateActive)} }

// unfinished are the states that something is still to be done for.
func unfinished() []string { return append(running(), string(stateStopping)) }

// can says whether a recording may go from s to another state. There is no
// way back, and no way out of the last two.
func (s state) can(to state) bool {
	switch s {
	case stateStarting:
		return to == stateActive || to == stateStopping || to == stateFailed
	case stateActive:
		return to == stateStopping
	case stateStopping:
		return to == stateStored || to == stateFailed
	case stateStored, stateFailed:
		return false
	}
	return false
}

// stateError: the table has no way from one state to the other.
type stateError struct {
	name     string
	from, to state
}

func (e *stateError) Error() string {
	return fmt.Sprintf("recording %s is %s and cannot become %s", e.name, e.from, e.to)
}
