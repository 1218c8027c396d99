// Package report presents a [result.Report]: a summary for a terminal, an HTML
// page that opens offline, and a comparison of two runs.
package report
