// Package recording records rooms: relay.recording.v1.RecordingService and
// the work behind it. A recording is a row in the records whose states are
// changed only along a fixed table (state.go), each change together with its
// event and its evidence leaf; a recorder (package tracks) that sits unseen in
// the LiveKit room; and a capture (package capture) that brings every track
// to the object store and seals it.
//
// One replica runs a recording: it holds the recording's lease and renews it.
// A process that starts takes up at once the recordings whose spool it finds,
// and those of others when their lease has run out. A recording ends by
// itself when its room does.
package recording
