// Package work lets several machines share one load test. Workers (processes, pods
// of a Kubernetes Indexed Job) communicate only through [Objects]: an S3 bucket or a
// folder. Each announces itself, all agree on one time to start
// ([Coordinator.Barrier]), and each stores its part of the report with complete
// histograms ([Coordinator.Put]), so that the merge of all parts ([Coordinator.Parts])
// adds exact counts.
//
// Nothing here needs compare-and-swap or an order of writes: every key has one
// writer, is written once, and is never changed. The keys of a run are
//
//	runs/<run>/ready-00003-of-00008.json  worker 3's announcement, with its clock
//	runs/<run>/start.json                 worker 0: when all workers start
//	runs/<run>/part-00003-of-00008.json   the report of worker 3
package work
