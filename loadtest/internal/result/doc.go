// Package result is the data of a load test: the model of its JSON document with
// its schema, and the merge of the parts of several workers. It includes complete
// histograms, so that parts add up exactly. It presents nothing and imports no
// other package of the load test; package report presents it.
//
// Nothing in a result is estimated: a figure that was not measured is absent
// (null), and [Provenance] says how the others were measured.
package result
