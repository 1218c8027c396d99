// Package scenario is what a load test is to do, as people write it down in
// YAML: where, how many, which media over which paths, how the load grows, and
// what counts as good enough.
package scenario
