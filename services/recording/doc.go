// Package recording records rooms: relay.recording.v1.RecordingService and
// the work behind it. A recording is
//   - a record, whose state moves only along a fixed table (state.go), each
//     time together with its event and its evidence leaf;
//   - a recorder (package tracks), a hidden participant of the LiveKit room;
//   - a capture (package capture), which stores every track in the object store
//     and is sealed when the recorder has left.
//
// One replica runs a recording: the one that its record names as owner. A process
// that starts resumes at once the recordings whose spool it has, and seals those of
// other replicas once they have given no sign of life for the configured patience.
// A recording ends by itself when its room does.
package recording
