// Package live shows a load test while it runs: on a terminal as a block that
// is drawn anew with each update, elsewhere (a log, a pipe) as a line every
// five seconds.
package live
