// Package process runs the programs of a development stack, of tests and of
// load tests: servers such as LiveKit, a relay of its own, or this program
// again in another role. [Start] runs a program with its output in a file,
// waits until it is ready, and watches it: an exit that nobody asked for is
// reported. Stopping ends the program and every process below it within a
// bounded time. [Run], [Logged] and [Output] run a command to its end. No other
// package of this repository runs one, except in tests.
//
// What a program makes is readable only by its user (umask 077), and a program
// can be confined: see [Spec.Confined].
//
// Whatever is started here dies with this process, even if that is killed
// (PR_SET_PDEATHSIG, prctl(2)).
package process
