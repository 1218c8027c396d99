// Package recordload records rooms while others load them: the part of the
// kind recording that is not media. A [Controller] starts a recording of each
// room, watches that it goes on, stops it, waits until it is sealed, and reads
// it back, so that what a report says of a recording is what is stored, not
// what was hoped for.
package recordload
