package work

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
)

// The environment variables of a worker; the program's flags override them.
const (
	EnvRun     = "RELAY_LOADTEST_RUN"     // the run's id, the same for all workers
	EnvWorker  = "RELAY_LOADTEST_WORKER"  // this worker's index, from 0
	EnvWorkers = "RELAY_LOADTEST_WORKERS" // the number of workers
	// EnvJobIndex is set by Kubernetes in the pods of an Indexed Job; it is used if
	// EnvWorker is not set.
	EnvJobIndex = "JOB_COMPLETION_INDEX"
)

// MaxWorkers is the largest number of workers of a run: keys have five digits.
const MaxWorkers = 99_999

// ErrIdentity is returned if a worker's index, count or run is invalid.
var ErrIdentity = errors.New("work: this worker's identity")

// runID matches the ids of runs, which become part of keys and file names.
var runID = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$`)

// Worker identifies a worker of a run.
type Worker struct {
	Index int    // from 0; worker 0 also sets the start
	Count int    // number of workers in the run, 1 to MaxWorkers
	Run   string // 1 to 63 letters, digits, "-", "_" and "."
}

// Identity reads the worker from the environment. If no variable is set, it is
// the only worker of a run without an id. Errors are ErrIdentity.
func Identity(getenv func(string) string) (Worker, error) {
	w := Worker{Count: 1, Run: getenv(EnvRun)}
	index, name := getenv(EnvWorker), EnvWorker
	if index == "" {
		index, name = getenv(EnvJobIndex), EnvJobIndex
	}
	count := getenv(EnvWorkers)
	if index == "" && count == "" {
		return w, nil
	}
	if index == "" || count == "" {
		return w, fmt.Errorf("%w: set both %s (or %s) and %s, or none", ErrIdentity, EnvWorker, EnvJobIndex, EnvWorkers)
	}
	var err error
	if w.Index, err = strconv.Atoi(index); err != nil {
		return w, fmt.Errorf("%w: %s is %q, not a number", ErrIdentity, name, index)
	}
	if w.Count, err = strconv.Atoi(count); err != nil {
		return w, fmt.Errorf("%w: %s is %q, not a number", ErrIdentity, EnvWorkers, count)
	}
	return w, w.Check()
}

// Check returns ErrIdentity if the worker cannot take part in a run of several
// workers.
func (w Worker) Check() error {
	switch {
	case w.Count < 1 || w.Count > MaxWorkers:
		return fmt.Errorf("%w: %d workers, must be 1 to %d", ErrIdentity, w.Count, MaxWorkers)
	case w.Index < 0 || w.Index >= w.Count:
		return fmt.Errorf("%w: worker %d of %d, must be 0 to %d", ErrIdentity, w.Index, w.Count, w.Count-1)
	}
	return checkRun(w.Run)
}

func checkRun(run string) error {
	if !runID.MatchString(run) {
		return fmt.Errorf("%w: run id %q, must be 1 to 63 letters, digits, '-', '_' and '.' with a letter or digit at both ends: set %s",
			ErrIdentity, run, EnvRun)
	}
	return nil
}

// key returns the key of this worker's object of a kind ("ready", "part").
func (w Worker) key(kind string) string {
	return fmt.Sprintf("%s%s-%05d-of-%05d.json", folderOf(w.Run), kind, w.Index, w.Count)
}

func folderOf(run string) string { return "runs/" + run + "/" }

func startKey(run string) string { return folderOf(run) + "start.json" }

// keyName matches the last element of Worker.key.
var keyName = regexp.MustCompile(`^(ready|part)-(\d{5})-of-(\d{5})\.json$`)

// parseKey is the inverse of Worker.key for a key of the run.
func parseKey(run, key string) (kind string, w Worker, ok bool) {
	dir := folderOf(run)
	if len(key) <= len(dir) || key[:len(dir)] != dir {
		return "", Worker{}, false
	}
	m := keyName.FindStringSubmatch(key[len(dir):])
	if m == nil {
		return "", Worker{}, false
	}
	w.Run = run
	w.Index, _ = strconv.Atoi(m[2]) // five digits
	w.Count, _ = strconv.Atoi(m[3])
	return m[1], w, w.Check() == nil
}
