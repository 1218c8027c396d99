package part

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"github.com/openova-io/bp-relay/services/dev/process"
)

// maker is one way to get a part.
type maker interface {
	// find returns where a part is that is on the machine already. Nil tools
	// of a part that was found mean that make must look at it all the same.
	find(ctx context.Context) (t Tools, found bool, err error)
	// lock names the file below the cache folder that keeps others from making
	// the same part; "" if nothing does.
	lock() string
	// fetch downloads what make needs. It may do nothing.
	fetch(ctx context.Context, w *work) error
	// make makes the part, and find finds it then.
	make(ctx context.Context, w *work) error
	// clean removes what fetch and make left over.
	clean()
	// stage is what make does.
	stage() Stage
}

// work is what a maker writes to: its log, and a few words for a person.
type work struct {
	log   *os.File
	doing func(string)
}

// run runs a command with its output in the log. line, if not nil, sees each
// line of output first and returns false for one that is not to be logged.
func (w *work) run(ctx context.Context, cmd *exec.Cmd, line func(string) bool) error {
	if line == nil {
		return process.Logged(ctx, cmd, w.log)
	}
	out := &lines{log: w.log, see: line}
	err := process.Logged(ctx, cmd, out)
	return errors.Join(err, out.flush())
}

// lines passes on whole lines.
type lines struct {
	log  *os.File
	see  func(string) bool
	rest []byte
}

func (l *lines) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		line, rest, ok := bytes.Cut(l.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		l.rest = rest
		if l.see(string(line)) {
			if _, err := fmt.Fprintf(l.log, "%s\n", line); err != nil {
				return len(p), err
			}
		}
	}
}

func (l *lines) flush() error {
	if len(l.rest) == 0 || !l.see(string(l.rest)) {
		return nil
	}
	_, err := l.log.Write(l.rest)
	return err
}

// job gets one part and reports how it goes.
type job struct {
	o            Obtainer
	part         Part
	maker        maker
	index, total int

	found bool
	tools Tools
	told  bool // the last event was sent
	began time.Time
	held  *flock.Flock
	log   *os.File
}

// compiles reports whether the job needs the compiler.
func (j *job) compiles() bool { return j.part.Go != nil || j.part.Program != nil }

func (j *job) report(s Stage, doing string) {
	e := Event{Stage: s, Index: j.index, Total: j.total, Part: j.part.Name, Version: j.part.Version, Doing: doing, Took: time.Since(j.began)}
	if j.log != nil {
		e.Log = j.log.Name()
	}
	j.told = j.told || s.last()
	j.o.Progress.Report(e)
}

// work is what the maker gets during a stage.
func (j *job) work(s Stage) *work {
	return &work{log: j.log, doing: func(words string) { j.report(s, words) }}
}

// fetch takes the lock, looks again whether the part is there, and downloads
// what make needs.
func (j *job) fetch(ctx context.Context) error {
	j.began = time.Now()
	if j.tools != nil {
		j.report(StageFound, "")
		return nil
	}
	if err := j.acquire(ctx); err != nil {
		return j.failed(ctx, err)
	}
	t, found, err := j.maker.find(ctx)
	if err != nil {
		return j.failed(ctx, err)
	}
	if j.tools = t; t != nil { // another run made it meanwhile
		j.report(StageFound, "")
		j.close()
		return nil
	}
	path := filepath.Join(j.o.Cache, "logs", string(j.part.Name)+".log")
	if j.log, err = os.Create(path); err != nil {
		return j.failed(ctx, err)
	}
	if found {
		return nil
	}
	if j.compiles() {
		j.report(StageFetching, "")
	}
	if err := j.maker.fetch(ctx, j.work(StageFetching)); err != nil {
		return j.broken(ctx, err)
	}
	if j.compiles() {
		j.report(StageQueued, "")
	}
	return nil
}

// make makes a part that fetch has prepared.
func (j *job) make(ctx context.Context) error {
	if j.tools != nil {
		return nil
	}
	made := StageMade
	if j.found { // the go command knows whether there is anything to do
		made = StageFound
	} else {
		j.report(j.maker.stage(), "")
	}
	w := j.work(j.maker.stage())
	if doing := w.doing; j.found {
		w.doing = func(words string) { made = StageMade; doing(words) }
	}
	if err := j.maker.make(ctx, w); err != nil {
		return j.broken(ctx, err)
	}
	var err error
	if j.tools, _, err = j.maker.find(ctx); err != nil {
		return j.failed(ctx, err)
	}
	j.report(made, "")
	j.close()
	return nil
}

// acquire takes the lock of the part and waits for it if another run has it.
func (j *job) acquire(ctx context.Context) error {
	if j.maker.lock() == "" {
		return nil
	}
	lock := flock.New(filepath.Join(j.o.Cache, j.maker.lock()))
	held, err := lock.TryLock()
	if err == nil && !held {
		j.report(StageWaiting, "")
		_, err = lock.TryLockContext(ctx, 200*time.Millisecond)
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", lock.Path(), err)
	}
	j.held = lock
	return nil
}

// failed reports an error that has no output behind it.
func (j *job) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return j.interrupted(ctx)
	}
	j.report(StageFailed, "")
	return fmt.Errorf("%s: %w", j.part.Name, err)
}

// broken reports a command that failed.
func (j *job) broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return j.interrupted(ctx)
	}
	j.report(StageFailed, "")
	if missing, ok := errors.AsType[*MissingError](err); ok {
		return missing
	}
	return &BuildError{Part: j.part.Name, Log: j.log.Name(), Last: process.LastLine(j.log.Name(), 0), Err: err}
}

func (j *job) interrupted(ctx context.Context) error {
	return fmt.Errorf("%s: interrupted: the next run continues: %w", j.part.Name, context.Cause(ctx))
}

// close removes what is unfinished and gives up the lock. Closing twice is
// allowed.
func (j *job) close() {
	if j.held == nil && j.log == nil {
		return
	}
	j.maker.clean()
	if j.log != nil {
		_ = j.log.Close()
		j.log = nil
	}
	if j.held != nil {
		_ = j.held.Close()
		j.held = nil
	}
}
