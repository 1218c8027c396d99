package part

import "time"

// Stage is what happens to a part.
type Stage string

// The stages. [Obtainer.Obtain] reports StagePlanned first and StageDone last,
// both only if something is missing. Between them each part goes through any
// of the next six and then exactly one of StageFound, StageMade and
// StageFailed; a part that is interrupted has no last stage.
const (
	StagePlanned Stage = "planned"

	StageWaiting    Stage = "waiting for another run that is making it"
	StageFetching   Stage = "downloading"
	StageQueued     Stage = "waiting for the compiler"
	StageBuilding   Stage = "building"
	StageInstalling Stage = "installing"
	StageStarting   Stage = "starting"

	StageFound  Stage = "ready" // it was there already, or runs now
	StageMade   Stage = "built"
	StageFailed Stage = "failed"

	StageDone Stage = "done"
)

func (s Stage) last() bool { return s == StageFound || s == StageMade || s == StageFailed }

// Event reports one part's step. Index counts from 1 to Total.
type Event struct {
	Stage        Stage
	Index, Total int
	Part         Name
	Version      string
	// Doing says more about the stage in a few words: "compiling 812 of 1934
	// packages". It may be "", and an event with the same stage and other words
	// may follow.
	Doing string
	// Took is the time since the part's turn began; set on its last event, and
	// on StageDone for all of it.
	Took time.Duration
	// Log is the file that holds the output of what runs, or "".
	Log string
	// Plan is set on StagePlanned and StageDone.
	Plan *Plan
}

// Progress receives events, one at a time. A nil Progress is allowed wherever
// one is asked for.
type Progress func(Event)

// Report calls p if it is not nil.
func (p Progress) Report(e Event) {
	if p != nil {
		p(e)
	}
}
