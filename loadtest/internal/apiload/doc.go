// Package apiload runs the load of kind api: calls of relay's gRPC API in an open
// loop. Calls are due at fixed times however long the answers take. A call that
// is due while all callers are busy is dropped, and latency counts from the time
// at which a call was due: so a stall of the server is measured in full, which a
// generator that waits for answers would not do (coordinated omission; G. Tene,
// "How NOT to Measure Latency").
//
// Its calls concern rooms that it creates; it deletes them at the end.
package apiload
