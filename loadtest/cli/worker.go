package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"github.com/openova-io/bp-relay/loadtest/report"
	"github.com/openova-io/bp-relay/loadtest/scenario"
	"github.com/openova-io/bp-relay/loadtest/work"
)

// workerFlags say which worker of a run this is, and where they meet.
type workerFlags struct {
	worker, workers int
	id, store       string
	// stored says that the part of one of several workers is in the store: the
	// verdict is the merge's, and a part that fails is no worker that failed (a
	// Kubernetes Job would end the others).
	stored bool
}

func (w *workerFlags) flags(f *pflag.FlagSet) {
	f.IntVar(&w.worker, "worker", -1, "this worker, from 0 (env "+work.EnvWorker+", or a Kubernetes Indexed Job's index)")
	f.IntVar(&w.workers, "workers", 0, "how many workers the run has (env "+work.EnvWorkers+")")
	f.StringVar(&w.id, "run", "", "the run's id, the same for all workers (env "+work.EnvRun+")")
	f.StringVar(&w.store, "store", "", "where workers meet: file:DIR or s3://BUCKET[/PREFIX] (env "+work.EnvStore+"; S3 keys only by environment)")
}

// getenv is the environment with the flags before it.
func (w *workerFlags) getenv(name string) string {
	switch {
	case name == work.EnvWorker && w.worker >= 0:
		return strconv.Itoa(w.worker)
	case name == work.EnvWorkers && w.workers > 0:
		return strconv.Itoa(w.workers)
	case name == work.EnvRun && w.id != "":
		return w.id
	case name == work.EnvStore && w.store != "":
		return w.store
	}
	return os.Getenv(name)
}

// prepare gives this worker's part of a scenario, when to begin, and what to
// do with the report.
func (w *workerFlags) prepare(ctx context.Context, s *scenario.Scenario) (begin func(context.Context) (time.Time, error), part *scenario.Scenario, finish func(context.Context, *report.Report, io.Writer) error, err error) {
	nothing := func(context.Context, *report.Report, io.Writer) error { return nil }
	me, err := work.Identity(w.getenv)
	if err != nil {
		return nil, nil, nil, usage{fmt.Errorf("%w; --run, --worker and --workers do the same", err)}
	}
	w.id = me.Run
	if me.Count <= 1 && w.getenv(work.EnvStore) == "" && w.getenv(work.EnvBucket) == "" {
		return nil, s, nothing, nil
	}
	store, err := work.Open(ctx, work.FromEnv(w.getenv))
	if err != nil {
		return nil, nil, nil, err
	}
	raw, err := s.JSON()
	if err != nil {
		return nil, nil, nil, err
	}
	sum := sha256.Sum256(raw)
	begin = func(ctx context.Context) (time.Time, error) {
		start, err := store.Barrier(ctx, me, hex.EncodeToString(sum[:]))
		return start.At.Add(s.Load.Warmup), err
	}
	finish = func(ctx context.Context, rep *report.Report, out io.Writer) error {
		defer func() { _ = store.Close() }() // what counts was said by Put
		rep.Scenario = raw                   // of the whole, so that parts can be merged
		if err := store.Put(ctx, me, rep); err != nil {
			return err
		}
		w.stored = me.Count > 1
		fmt.Fprintf(out, "part %d of %d is in the store; when all are: relay-loadtest report merge --run %s\n", me.Index, me.Count, me.Run)
		return nil
	}
	return begin, scenario.Share(me.Index, me.Count, s), finish, nil
}
