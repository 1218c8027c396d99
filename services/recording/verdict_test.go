package recording

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/capture"
	"github.com/openova-io/bp-relay/services/recording/tracks"
	"github.com/openova-io/bp-relay/services/records"
)

// Every row says what becomes of a required and of a best-effort recording.
func TestJudge(t *testing.T) {
	const patience = 10 * time.Minute
	short, long := patience-time.Second, patience
	wrapped := func(err error) error { return fmt.Errorf("open stream cam: %w", err) }
	closed := errors.New("the capture has failed")
	type row struct {
		what                 string
		at                   situation
		required, bestEffort act
		why                  string
	}
	began := func(s situation) situation { s.began, s.patience = true, patience; return s }
	for _, r := range []row{
		// What somebody decided.
		{"stopped", began(situation{cause: errStopped, end: tracks.EndStopped}), finish, finish, "stopped"},
		{"stopped while the process stops", began(situation{cause: errStopped, ending: true}), finish, finish, "stopped"},
		{"stopped after a failure of long ago", began(situation{cause: errStopped, failed: records.ErrUnavailable, lasting: long}), finish, finish, "stopped"},
		{"room ended", began(situation{end: tracks.EndRoomEnded}), finish, finish, "room_ended"},

		// Another process goes on.
		{"the process stops", began(situation{ending: true, end: tracks.EndStopped}), leave, leave, ""},
		{"the process stops with its spool", began(situation{ending: true, failed: capture.ErrClosed}), leave, leave, ""},
		{"replaced", began(situation{end: tracks.EndReplaced}), leave, leave, ""},
		{"the record names another owner", began(situation{cause: errTaken}), leave, leave, ""},
		{"a write was fenced", began(situation{failed: wrapped(records.ErrFenced)}), leave, leave, ""},
		{"the capture was taken", began(situation{cause: closed, spool: capture.ErrTaken, lasting: long}), leave, leave, ""},

		// What cannot pass.
		{"capture: spool full", began(situation{cause: closed, spool: wrapped(capture.ErrSpoolFull)}), finishRoom, finish, "spool_full"},
		{"capture: disk", began(situation{cause: closed, spool: wrapped(capture.ErrDisk)}), finishRoom, finish, "spool_failed"},
		{"capture: other", began(situation{cause: closed, spool: closed}), finishRoom, finish, "spool_failed"},

		// What may pass, for a short time and for too long.
		{"records away", began(situation{failed: wrapped(records.ErrUnavailable), end: tracks.EndFailed, lasting: short}), wait, wait, ""},
		{"records away, long", began(situation{failed: wrapped(records.ErrUnavailable), end: tracks.EndFailed, lasting: long}), finishRoom, finish, "failed"},
		{"bus away", began(situation{failed: bus.ErrUnavailable, lasting: short}), wait, wait, ""},
		{"recorder fails", began(situation{failed: errors.New("dtls"), end: tracks.EndFailed}), wait, wait, ""},
		{"recorder fails, long", began(situation{failed: errors.New("dtls"), end: tracks.EndFailed, lasting: long}), finishRoom, finish, "failed"},
		{"its host is not seen", began(situation{unseen: true, lasting: short}), wait, wait, ""},
		{"its host is not seen, long", began(situation{unseen: true, lasting: long}), finishRoom, finish, "recorder_lost"},

		// A recording that never began ends no room.
		{"never joined", situation{cause: errLate, patience: patience}, finish, finish, "failed"},
		{"never joined, spool full", situation{failed: wrapped(capture.ErrSpoolFull), spool: capture.ErrSpoolFull, patience: patience}, finish, finish, "spool_full"},
		{"never joined, its host is lost", situation{unseen: true, lasting: long, patience: patience}, finish, finish, "recorder_lost"},
	} {
		for mode, want := range map[capture.Mode]act{capture.Required: r.required, capture.BestEffort: r.bestEffort} {
			r.at.mode = mode
			do, why := judge(r.at)
			require.Equal(t, want, do, "%s, %s", r.what, mode)
			require.Equal(t, r.why, why, "%s, %s", r.what, mode)
			if do == finishRoom || do == finish {
				require.Equal(t, do == finishRoom, endsRoom(mode, r.at.began, why), "%s, %s: the same from the record", r.what, mode)
			}
		}
	}
}

// A spool that refuses one track of a best-effort recording may take it later.
func TestJudgeStream(t *testing.T) {
	for _, err := range []error{capture.ErrSpoolFull, capture.ErrDisk} {
		at := situation{failed: err, end: tracks.EndFailed, began: true, patience: time.Minute}
		at.mode = capture.BestEffort
		do, _ := judge(at)
		require.Equal(t, wait, do)
		at.mode = capture.Required
		do, _ = judge(at)
		require.Equal(t, finishRoom, do)
	}
}
