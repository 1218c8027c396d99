// Package measure holds what every measurement here is made with: the CPU time
// and memory of another process, the order in which two or more subjects take
// turns, medians with their spread, the noise of the machine meanwhile, and the
// form of a result.
//
// On a small machine that others use too, nothing absolute holds. So subjects
// are compared in one run, in turns (A B B A), and what counts is the CPU time
// of the measured process at a fixed load, not the time on the wall.
package measure
