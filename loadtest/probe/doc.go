// Package probe watches what a run happens on and against: the processes under
// test (CPU time, memory, datagrams that their sockets dropped), the generator
// itself (did its threads wait for processors, did the kernel drop its
// packets), the counters that LiveKit and STUNner publish, and the machine.
//
// All of it comes from Linux: /proc (proc(5)), cgroups, adjtimex(2), and
// Prometheus endpoints. What a machine does not tell is left out, never
// guessed.
package probe
