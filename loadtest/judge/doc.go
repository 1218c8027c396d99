// Package judge says whether a run was good enough, and whether it may say so.
//
// A threshold is one line, "[path.]metric op value": "latency_p99 < 150ms",
// "turn-udp.loss < 0.1%", "each.joins_failed <= 1%". Without a path it is
// judged on all paths together (the report's total); "each" judges every path
// by itself, so that a good direct path cannot make up for a bad one through
// TURN. docs/scenarios.md lists the metrics.
//
// # The verdict
//
// In this order:
//
//   - error: the run itself failed. A participant used another path than it was
//     to, nobody joined, no call succeeded, the ledger has packets that no hop
//     explains, or a threshold cannot be read.
//   - inconclusive: a threshold is broken (or subscribers were absent, see below)
//     and the generator was the bottleneck (see [Limits]), so nobody knows whose
//     fault it is. Never fail.
//   - inconclusive: every threshold holds, but the generator lost data of its
//     own (socket or queue drops, sends that failed). The system under test got
//     less to carry, or what it delivered was not all looked at: a failure may
//     be hidden. The generator's other troubles (late, waiting, stolen time)
//     make the figures worse, never better, so thresholds that hold in spite of
//     them do hold: pass, and the reasons say what to mind.
//   - fail: a threshold is broken, and the generator was well. So is a run in
//     which more than 5 % of the planned subscribers were never there at once, or
//     not at the end, and joins had failed or participants had fallen out.
//   - inconclusive: a threshold's metric was not measured, or as many were absent
//     without anybody being refused. Nothing is known of it, so it neither passes
//     nor is blamed on the system.
//   - pass.
package judge
