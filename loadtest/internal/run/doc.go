// Package run runs a scenario: it finds or starts the system under test, joins
// publishers and subscribers as the scenario's load says, measures them, and
// builds the report.
//
// Packets and joins are counted over the whole life of each participant, the
// warm-up included, so that loss attribution is complete: every packet sent was
// received or is attributed to the hop that lost it. Rates, latencies, jitter,
// CPU time, costs and the generator's own health are of the measured part only.
package run
