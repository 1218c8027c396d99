// Package scenario is what a load test is to do, as people write it down in
// YAML: where, how many, which media over which paths, how the load grows, and
// what counts as good enough.
//
// [Parse] is strict: a key that it does not know, a value out of its bounds and
// keys that contradict each other are errors, all told at once, each with its
// line. docs/scenarios.md lists every key; [Library] has scenarios to begin
// with.
package scenario
