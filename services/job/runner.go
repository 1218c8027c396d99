package job

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/openova-io/bp-relay/services/bus"
	"github.com/openova-io/bp-relay/services/internal/lease"
	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/internal/task"
	"github.com/openova-io/bp-relay/services/records"
)

// Work runs the jobs of one kind. It starts at the run's Cursor, calls Save as
// it goes, and returns nil once the job is done. ctx ends when the process
// stops or the lease is lost; Work then returns soon, with any error.
type Work func(ctx context.Context, r *Run) error

// Config is what a runner needs. Records, Bus and Works are required.
type Config struct {
	Records records.DB
	Bus     bus.Bus
	// Works are the kinds that this runner runs; it leaves others alone.
	Works map[string]Work
	// Recurring are jobs that the runner adds or brings up to date: see Ensure.
	Recurring []Job
	// Parallel is how many jobs run at once; 0 means 4.
	Parallel int
	// Poll is how often jobs are looked for; 0 means 5 s.
	Poll time.Duration
	// LeaseTTL is how long a job stays with a replica that has died; 0 means
	// 10 s.
	LeaseTTL time.Duration
	// Retry is the delay after the first failed run. It doubles with each one
	// up to MaxRetry. 0 means 5 s and 10 min.
	Retry, MaxRetry time.Duration
	// Logger is slog.Default() if nil.
	Logger *slog.Logger
}

// page is how many records are read at once.
const page = 200

// endTimeout bounds the write of a run's end, which a stopping runner waits for.
const endTimeout = 5 * time.Second

// Runner runs jobs. Several runners, on any replicas, share the jobs.
type Runner struct {
	cfg   Config
	tasks *task.Group // one per run, by job
	slots chan struct{}
}

// New checks the configuration.
func New(cfg Config) (*Runner, error) {
	if cfg.Records == nil || cfg.Bus == nil || len(cfg.Works) == 0 {
		return nil, errors.New("job: Records, Bus and Works are required")
	}
	cfg.Parallel = cmp.Or(cfg.Parallel, 4)
	cfg.Poll = cmp.Or(cfg.Poll, 5*time.Second)
	cfg.LeaseTTL = cmp.Or(cfg.LeaseTTL, 10*time.Second)
	cfg.Retry = cmp.Or(cfg.Retry, 5*time.Second)
	cfg.MaxRetry = cmp.Or(cfg.MaxRetry, 10*time.Minute)
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Runner{cfg: cfg, tasks: task.New(), slots: make(chan struct{}, cfg.Parallel)}, nil
}

// Run looks for jobs that are due and runs them until ctx ends; it then waits
// for those that run. Call it once. What a stopped run saved is kept: another
// runner resumes the job at once.
func (r *Runner) Run(ctx context.Context) error {
	defer r.tasks.Stop()
	t := time.NewTicker(r.cfg.Poll)
	defer t.Stop()
	for missing := r.cfg.Recurring; ; {
		for len(missing) > 0 {
			err := Ensure(ctx, r.cfg.Records, missing[0])
			if err != nil && ctx.Err() == nil {
				r.cfg.Logger.WarnContext(ctx, "cannot write a recurring job; trying again", "job", missing[0].Name, "error", err)
			}
			if err != nil {
				break
			}
			missing = missing[1:]
		}
		if err := r.sweep(ctx); err != nil && ctx.Err() == nil {
			r.cfg.Logger.WarnContext(ctx, "cannot look for jobs; trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// sweep starts the jobs that are due and that no other replica runs.
func (r *Runner) sweep(ctx context.Context) error {
	q := records.Query{Kind: records.Jobs, States: []string{string(Waiting), string(Running)}, Limit: page}
	for rec, err := range resource.Each(ctx, r.cfg.Records, q) {
		if err != nil {
			return err
		}
		j, err := parse(rec)
		if err != nil {
			r.cfg.Logger.ErrorContext(ctx, "job cannot be read", "job", rec.Name, "error", err)
			continue
		}
		if !r.start(ctx, j) {
			return nil // no slot is free
		}
	}
	return nil
}

// start runs the job if it is due and free. It returns false if no slot is
// free.
func (r *Runner) start(ctx context.Context, j Job) bool {
	if r.cfg.Works[j.Kind] == nil || r.tasks.Has(j.Name) || !r.due(j, time.Now()) {
		return true
	}
	select {
	case r.slots <- struct{}{}:
	default:
		return false
	}
	free := func() { <-r.slots }
	l, err := lease.Acquire(ctx, lease.Config{Bus: r.cfg.Bus, Name: "job:" + j.Name, TTL: r.cfg.LeaseTTL, Logger: r.cfg.Logger})
	if err != nil {
		if !errors.Is(err, bus.ErrHeld) && ctx.Err() == nil {
			r.cfg.Logger.WarnContext(ctx, "cannot get a job's lease; trying again", "job", j.Name, "error", err)
		}
		free()
		return true
	}
	run := func(ctx context.Context) {
		defer free()
		err := l.Hold(ctx, func(ctx context.Context) error { return r.run(ctx, j) })
		if err != nil && ctx.Err() == nil {
			r.cfg.Logger.WarnContext(ctx, "job's run ended early; trying again", "job", j.Name, "kind", j.Kind, "error", err)
		}
		_ = l.Release(ctx) // it expires otherwise
	}
	if !r.tasks.GoOnce(j.Name, run) {
		_ = l.Release(ctx)
		free()
	}
	return true
}

// due reports whether the job may run now. A recurring or repeated job that is
// due later than its own delays allow was written under a clock that was ahead:
// it does not wait until the right clock has caught up.
func (r *Runner) due(j Job, now time.Time) bool {
	wait, most := j.Due.Sub(now), j.Every
	if j.Failures > 0 {
		most = r.cfg.MaxRetry
	}
	return wait <= 0 || (most > 0 && wait > most)
}

// run runs the job once. j is as it was listed: the first update fails if
// another runner has changed it since.
func (r *Runner) run(ctx context.Context, j Job) error {
	j.State = Running
	if err := update(ctx, r.cfg.Records, &j); err != nil {
		if errors.Is(err, ErrTaken) {
			return nil // the next sweep sees how it is now
		}
		return err
	}
	err := r.cfg.Works[j.Kind](ctx, &Run{job: &j, db: r.cfg.Records})
	if err != nil && (ctx.Err() != nil || errors.Is(err, ErrTaken)) {
		return err // it stays RUNNING: whoever has the lease next resumes it
	}
	// What is done is done, also if the runner is stopping or its lease is lost:
	// the record's version still refuses it if another runner has taken the job.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	var permanent permanentError
	now := time.Now()
	switch {
	case err == nil && j.Every > 0:
		j.State, j.Cursor, j.Failures, j.Error, j.Due = Waiting, "", 0, "", now.Add(j.Every)
	case err == nil:
		j.State, j.Failures, j.Error = Done, 0, ""
	case errors.As(err, &permanent):
		j.State, j.Failures, j.Error = Failed, j.Failures+1, err.Error()
	default:
		j.Failures++
		j.State, j.Error, j.Due = Waiting, err.Error(), now.Add(r.delay(j.Failures))
	}
	if err != nil {
		r.cfg.Logger.WarnContext(ctx, "job failed", "job", j.Name, "kind", j.Kind, "state", j.State, "failures", j.Failures, "error", err)
	}
	if err := update(ctx, r.cfg.Records, &j); err != nil {
		return fmt.Errorf("write the job's end: %w", err)
	}
	return nil
}

// delay is how long to wait after so many failures.
func (r *Runner) delay(failures int) time.Duration {
	d := r.cfg.Retry
	for ; failures > 1 && d < r.cfg.MaxRetry; failures-- {
		d *= 2
	}
	return min(d, r.cfg.MaxRetry)
}

// Run is one run of a job. It is not safe for concurrent use.
type Run struct {
	job *Job
	db  records.DB
}

// Job is the job as it was saved last.
func (r *Run) Job() Job { return *r.job }

// Save keeps the cursor and the progress, durably. ErrTaken if another replica
// runs the job: Work must return.
func (r *Run) Save(ctx context.Context, cursor string, p Progress) error {
	saved := *r.job
	saved.Cursor, saved.Progress, saved.Failures, saved.Error = cursor, p, 0, ""
	if err := update(ctx, r.db, &saved); err != nil {
		return err
	}
	*r.job = saved
	return nil
}
