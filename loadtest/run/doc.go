// Package run does a media scenario: it finds or starts the installation, lets
// publishers and subscribers in as the scenario's load says, watches them, and
// makes the report.
//
// What is counted of packets and joins is counted over the whole life of each
// participant, warm-up included, so that the ledger is whole: what was sent is
// what arrived plus what was lost on each hop. Rates, latencies, jitter,
// CPU time and costs, and what is judged of the generator's own health, are of
// the measured part only.
package run
