package recording

import (
	"errors"
	"time"

	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/recording/tracks"
	"github.com/openova-io/bp-relay/services/records"
)

// act is what happens to a recording whose recorder has left its room, or is not
// seen any more.
type act int

const (
	// leave changes nothing: another process records, or the next one resumes.
	leave act = iota
	// wait tries again: the cause may pass, and says nothing about the recording.
	wait
	// finish ends the recording.
	finish
	// finishRoom ends the recording and its room: the call must be recorded.
	finishRoom
)

// situation is all that decides.
type situation struct {
	mode capture.Mode
	// began: the recorder was in the room. A recording that never began fails
	// towards its caller, and ends no room.
	began bool
	// ending: the process stops.
	ending bool
	// cause is why the recorder was told to leave, failed why it left by itself,
	// spool why its capture takes nothing any more; each may be nil.
	cause, failed, spool error
	// end is the recorder's own word.
	end tracks.End
	// unseen: the process that has the recording gives no sign of life, and its
	// spool is on another host.
	unseen bool
	// lasting is for how long it has been so, patience how long that is waited for.
	lasting, patience time.Duration
}

// judge decides what is terminal and what is waited for, and is the only place
// that may end a room. why is the API's word for the end.
//
// What somebody decided ends a recording, and what cannot pass: a full spool or a
// failing disk of a required one. Whatever may pass is waited for: the records,
// the bus, LiveKit or the recorder's host being away. A required recording
// whose recorder is away for longer than patience ends its room.
func judge(s situation) (do act, why string) {
	terminal := finish
	if s.mode == capture.Required && s.began {
		terminal = finishRoom
	}
	is := func(targets ...error) bool {
		for _, target := range targets {
			if errors.Is(s.cause, target) || errors.Is(s.failed, target) || errors.Is(s.spool, target) {
				return true
			}
		}
		return false
	}
	full := errors.Is(s.spool, capture.ErrSpoolFull) || s.mode == capture.Required && is(capture.ErrSpoolFull)
	broken := s.spool != nil || s.mode == capture.Required && is(capture.ErrDisk)
	switch {
	case s.end == tracks.EndReplaced, is(errTaken, capture.ErrTaken, records.ErrFenced):
		return leave, ""
	case is(errStopped):
		return finish, "stopped"
	case s.ending:
		return leave, ""
	case s.end == tracks.EndRoomEnded:
		return finish, string(tracks.EndRoomEnded)
	case full:
		return terminal, "spool_full"
	case broken:
		return terminal, "spool_failed"
	case is(errLate): // its caller was told so
		return finish, "failed"
	case s.lasting < s.patience:
		return wait, ""
	case s.unseen:
		return terminal, "recorder_lost"
	}
	return terminal, "failed"
}

// endsRoom reports whether a required recording that ended for this reason ends
// its room: for a process that finds the reason in the record, written by one that
// died before it had ended the room.
func endsRoom(mode capture.Mode, began bool, why string) bool {
	return mode == capture.Required && began && why != "stopped" && why != string(tracks.EndRoomEnded)
}
