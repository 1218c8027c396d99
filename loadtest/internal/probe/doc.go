// Package probe measures the environment of a run: the processes under test
// (CPU time, memory, datagrams dropped at their sockets), the generator itself
// (whether its threads waited for processors and the kernel dropped its
// packets), the counters of LiveKit and STUNner, and the machine.
//
// Its sources are Linux's /proc (proc(5)), cgroups and adjtimex(2), and
// Prometheus endpoints. A value that the machine does not report is left out,
// never guessed.
package probe
