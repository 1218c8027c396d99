// Package scenario describes a load test in YAML: its target, how many
// participants send which media over which paths, the stages of the load, and the
// thresholds that the result must keep.
//
// [Parse] is strict: an unknown key, a value out of its bounds and keys that
// contradict each other are errors, which are reported together, each with its
// line. docs/scenarios.md lists every key; [Library] has scenarios to start from.
package scenario
