// Package live shows the progress of a load test: on a terminal as a block that
// is redrawn with each update, elsewhere (a log, a pipe) as a line every five
// seconds.
package live
