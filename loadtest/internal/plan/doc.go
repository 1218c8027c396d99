// Package plan computes how many workers of which size a scenario needs, from the
// measured cost of earlier runs: [FromReports] fits a [Cost] to their seconds,
// [Workers] applies it to a scenario's packets, [Job] writes the plan as a
// Kubernetes Indexed Job.
//
// A plan is arithmetic on measured cost. It states what was assumed because no
// run determined it, which bound decides, and, for the SFU and the TURN servers,
// how far its figures are beyond the measured load.
package plan
