// Package tunnelload is the load of kind tunnel: desktop sessions through a
// relay's WebSocket tunnel, each opened through the API with its one-time
// ticket and recorded as every session is. At the far end is a synthetic guacd
// (package guacd) that replays a recorded .guac file, or images made for it; at
// the near end a client that takes everything and answers each sync, as a
// browser does.
//
// Both ends are in this process: they share a clock, and what arrives is
// compared byte for byte with what was sent. The time of an update counts from
// the moment when it was due at guacd, so that a tunnel that holds guacd back
// is not flattered.
package tunnelload
