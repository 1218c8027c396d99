// Package apiload is the load of kind api: gRPC calls of a relay's API in an
// open loop. The calls are due by the clock, whatever the answers take: what
// is due while all callers are busy is counted as dropped, and an answer's time
// counts from the moment when its call was due, so that a server that stalls
// is not flattered by a generator that waits for it (coordinated omission; G.
// Tene, "How NOT to Measure Latency").
//
// The rooms that it calls about are its own, and are gone at the end.
package apiload
