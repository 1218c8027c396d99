// Package recordload records rooms while media loads them: the part of the load
// of kind recording that is not media. A [Controller] starts a recording of
// each room, checks that it continues, stops it, waits until it is sealed, and
// reads it back, so that the report describes what is really stored.
package recordload
