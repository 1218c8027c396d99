// Package report is what a load test leaves behind: the model of its JSON
// document, with whole histograms in it so that parts of several machines can
// be added exactly, and what is made of it: a verdict by thresholds, an HTML
// page that opens offline, a comparison of two runs, a merge of many parts.
//
// Nothing in a report is estimated: a figure that was not measured is absent
// (null), and [Provenance] says how the others were obtained.
package report
