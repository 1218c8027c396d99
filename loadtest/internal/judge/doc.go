// Package judge decides whether a run kept its thresholds, and whether the
// measurement is good enough to say so.
//
// A threshold is one line, "[path.]metric op value": "latency_p99 < 150ms",
// "turn-udp.loss < 0.1%", "each.joins_failed <= 1%". Without a path it is
// judged on all paths together (the report's total); "each" judges every path
// by itself, so that a good direct path does not hide a bad one through TURN. docs/scenarios.md lists the metrics.
//
// # The verdict
//
// In this order:
//
//   - error: the run itself failed. A participant used the wrong path, nobody
//     joined, no call succeeded, no hop explains some of the lost packets, or a
//     threshold cannot be evaluated.
//   - inconclusive: a threshold is broken (or subscribers were absent, see below)
//     and the generator was the bottleneck (see [Limits]), so the cause is
//     unknown. Never fail.
//   - inconclusive: every threshold holds, but the generator lost data of its
//     own (socket or queue drops, sends that failed). The system under test carried
//     less, or not all that it delivered was counted: a failure may be hidden. The
//     generator's other problems (lag, waiting, steal time) make the figures worse,
//     never better, so thresholds that hold despite them do hold: pass, and the
//     reasons list the problems.
//   - fail: a threshold is broken, and the generator was well. So is a run in
//     which more than 5 % of the planned subscribers were never there at once, or
//     not at the end, and joins had failed or participants were disconnected.
//   - inconclusive: a threshold's metric was not measured, or as many were absent
//     although no join failed. Nothing is known about it, so it neither passes
//     nor is blamed on the system.
//   - pass.
package judge
