// Package plan says how many workers of which size a scenario needs, from what
// earlier runs cost: [FromReports] fits a [Cost] to their seconds, [Workers]
// applies it to a scenario's packets, [Job] writes the plan as a Kubernetes
// Indexed Job.
//
// A plan is arithmetic on measured cost, and says so: what was assumed since no
// run told it, what decides, and, for the SFU and the TURN servers, how far
// beyond the measured load its figures are.
package plan
