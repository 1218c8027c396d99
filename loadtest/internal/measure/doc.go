// Package measure has the tools of every benchmark: CPU time and memory of
// another process, the order in which two or more subjects take turns, medians
// with their spread, the machine's noise during the measurement, and the form
// of a result.
//
// On a small, shared machine, absolute figures mean little. Subjects are
// therefore compared in one run, in turns (A B B A), by the CPU time of the
// measured process at a fixed load, not by wall-clock time.
package measure
