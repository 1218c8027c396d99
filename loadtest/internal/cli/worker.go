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

	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/loadtest/internal/scenario"
	"github.com/openova-io/bp-relay/loadtest/internal/work"
)

// workerFlags identify a worker of a run, and the store where workers meet.
type workerFlags struct {
	worker, workers int
	id, store       string
	// stored is set if the part of one of several workers is in the store: the
	// merge gives the verdict, and a worker whose part fails has not failed
	// itself (a Kubernetes Job would end the others).
	stored bool
}

func (w *workerFlags) flags(f *pflag.FlagSet) {
	f.IntVar(&w.worker, "worker", -1, "index of this worker, from 0 (env "+work.EnvWorker+", or a Kubernetes Indexed Job's index)")
	f.IntVar(&w.workers, "workers", 0, "number of workers of the run (env "+work.EnvWorkers+")")
	f.StringVar(&w.id, "run", "", "the run's id, the same for all workers (env "+work.EnvRun+")")
	f.StringVar(&w.store, "store", "", "the store where workers meet: file:DIR or s3://BUCKET[/PREFIX] (env "+work.EnvStore+"; S3 keys only by environment)")
}

// getenv returns a flag's value, or else the environment's.
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

// prepare returns this worker's part of a scenario, a function that waits for the
// start, and one that stores the report.
func (w *workerFlags) prepare(ctx context.Context, s *scenario.Scenario) (begin func(context.Context) (time.Time, error), part *scenario.Scenario, finish func(context.Context, *result.Report, io.Writer) error, err error) {
	nothing := func(context.Context, *result.Report, io.Writer) error { return nil }
	me, err := work.Identity(w.getenv)
	if err != nil {
		return nil, nil, nil, usage{fmt.Errorf("%w; or use --run, --worker and --workers", err)}
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
	finish = func(ctx context.Context, rep *result.Report, out io.Writer) error {
		defer func() { _ = store.Close() }() // Put reports the errors that matter
		rep.Scenario = raw                   // the whole scenario, so that parts can be merged
		if err := store.Put(ctx, me, rep); err != nil {
			return err
		}
		w.stored = me.Count > 1
		fmt.Fprintf(out, "part %d of %d is in the store; when all are: relay-loadtest report merge --run %s\n", me.Index, me.Count, me.Run)
		return nil
	}
	return begin, scenario.Share(me.Index, me.Count, s), finish, nil
}
