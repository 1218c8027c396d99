// Package tunnelload runs the load of kind tunnel: desktop sessions through a
// relay's WebSocket tunnel, each opened through the API with its one-time
// ticket and recorded like every session. The server is a synthetic guacd
// (package guacd) that replays a recorded .guac file or generated images; the
// client receives everything and answers each sync, as a browser does.
//
// Client and server are in this process: they share a clock, and what arrives is
// compared byte for byte with what was sent. The latency of an update counts from
// the moment when it was due at guacd, so that it includes the time for which the
// tunnel blocks guacd.
package tunnelload
