// Package prom exports a running or finished load test to Prometheus: the last
// second of its timeline as gauges, its sums as counters, its distributions as
// histograms. Labels are closed sets: path (those of the scenario and total),
// process (generator, sfu, turn, relay, seaweedfs and those that the scenario
// names). docs/metrics-loadtest.md lists all names.
package prom
