// Package work lets several machines share one load test. Workers are started
// by whatever runs them (processes, a Kubernetes Indexed Job) and talk to each
// other only through objects in a [Store]: an S3 bucket or a folder. Each says
// that it is there, all agree on one moment to start ([Store.Barrier]), and
// each leaves its part of the report with whole histograms ([Store.Put]), so
// that whoever merges them ([Store.Parts]) adds exact counts.
//
// Nothing here needs compare-and-swap or an order of writes: every key has one
// writer, is written once, and is never changed. The keys of a run are
//
//	runs/<run>/ready-00003-of-00008.json  worker 3 is there, and its clock
//	runs/<run>/start.json                 worker 0: when all start
//	runs/<run>/part-00003-of-00008.json   the report of worker 3
package work
