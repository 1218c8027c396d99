// Package job runs background work that outlives the process which began it:
// compositions, exports, retention runs, pruning. A job is a record. Whichever
// replica holds the job's lease runs it; the work saves a cursor and its
// progress as it goes, and after a crash another replica resumes it from there.
// A failed run is repeated with growing delays.
//
// Work runs at least once: what it did after its last Save may be done again,
// so it must be idempotent from each cursor on.
package job

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/openova-io/bp-relay/services/internal/resource"
	"github.com/openova-io/bp-relay/services/records"
)

// State is the state of a job.
type State string

// The states. A job goes from WAITING to RUNNING, and from there to DONE, to
// FAILED, or back to WAITING: after a failed run, or until it is due again.
const (
	Waiting State = "WAITING"
	Running State = "RUNNING"
	Done    State = "DONE"
	Failed  State = "FAILED"
)

// Everyone is the organisation of jobs that work on the whole installation.
const Everyone = "-"

// Job is one piece of work.
type Job struct {
	// Name is unique: "orgs/acme/jobs/export-1". Org is the organisation's id,
	// or Everyone.
	Name, Org string
	// Kind names the Work that runs the job.
	Kind  string
	State State
	// Input is what the work was asked to do, a JSON document of its own.
	Input json.RawMessage
	// Every makes a job recur: it is due again so long after it was done. 0
	// means that it runs once.
	Every time.Duration
	// Cursor is where to resume, in the work's own words; "" at the beginning.
	Cursor   string
	Progress Progress
	// Failures counts the runs that failed since the last Save or success, and
	// Error is what the last of them said, "" if none did.
	Failures int
	Error    string
	// Due is when a waiting job may run.
	Due time.Time
	// CreateTime and UpdateTime are the record's.
	CreateTime, UpdateTime time.Time

	version int64
	body    []byte // as it was read
}

// Progress is how far a job is, in units of its work. Total is 0 if unknown.
type Progress struct {
	Done  int64 `json:"done"`
	Total int64 `json:"total"`
}

// Errors that callers decide by.
var (
	// ErrTaken: another replica runs the job; the run must stop.
	ErrTaken = errors.New("job: another replica runs it")
	// ErrInvalid: a job lacks a name, an organisation or a kind.
	ErrInvalid = errors.New("job: name, organisation and kind are required")
)

// permanentError is an error that repeating does not help.
type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

// Permanent marks an error of a Work that repeating does not help: the job
// becomes FAILED.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanentError{err}
}

// document is the body of a job's record.
type document struct {
	Kind     string          `json:"kind"`
	Input    json.RawMessage `json:"input,omitempty"`
	Every    time.Duration   `json:"every,omitempty"`
	Cursor   string          `json:"cursor,omitempty"`
	Progress Progress        `json:"progress"`
	Failures int             `json:"failures,omitempty"`
	Error    string          `json:"error,omitempty"`
	Due      time.Time       `json:"due"`
}

// Insert adds a job that waits for a Runner, in the caller's transaction. Its
// Name, Org, Kind, Input, Every and Due count; it runs at once if Due is zero.
// records.ErrExists if the name is taken.
func Insert(ctx context.Context, tx records.Tx, j Job) error {
	if j.Name == "" || j.Org == "" || j.Kind == "" {
		return ErrInvalid
	}
	rec, err := record(Job{Name: j.Name, Org: j.Org, Kind: j.Kind, State: Waiting, Input: j.Input, Every: j.Every, Due: j.Due})
	if err != nil {
		return err
	}
	_, err = tx.Insert(ctx, rec)
	return err
}

// Ensure adds the job unless there is one of its name. If both recur and are of
// one kind, the existing job gets j's Every and Input; it is due no later than
// its new Every from now, and starts at the beginning if Input has changed. A
// run that another replica is in the middle of then ends with ErrTaken.
func Ensure(ctx context.Context, db records.DB, j Job) error {
	err := db.Update(ctx, func(tx records.Tx) error {
		err := Insert(ctx, tx, j)
		if !errors.Is(err, records.ErrExists) || j.Every == 0 {
			return err
		}
		old, err := Get(ctx, tx, j.Name)
		if err != nil || old.Every == 0 || old.Kind != j.Kind {
			return err
		}
		return revise(ctx, tx, old, j)
	})
	if errors.Is(err, records.ErrExists) {
		return nil
	}
	return err
}

// revise writes j's Every and Input to the recurring job old if they differ.
func revise(ctx context.Context, tx records.Tx, old, j Job) error {
	was, err := json.Marshal(old.Input)
	if err != nil {
		return fmt.Errorf("job %s: %w", j.Name, err)
	}
	is, err := json.Marshal(j.Input) // in the form in which it is stored
	if err != nil {
		return fmt.Errorf("job %s: %w", j.Name, err)
	}
	if bytes.Equal(was, is) && old.Every == j.Every {
		return nil
	}
	if !bytes.Equal(was, is) {
		old.Input, old.Cursor, old.Progress = j.Input, "", Progress{}
	}
	old.Every = j.Every
	if latest := time.Now().Add(j.Every); old.Due.After(latest) {
		old.Due = latest
	}
	rec, err := record(old)
	if err != nil {
		return err
	}
	_, err = tx.Update(ctx, rec)
	return err
}

// Get reads a job; records.ErrNotFound if there is none.
func Get(ctx context.Context, tx records.Tx, name string) (Job, error) {
	rec, err := tx.Get(ctx, records.Jobs, name)
	if err != nil {
		return Job{}, err
	}
	return parse(rec)
}

// update writes the job and gives it its new version.
func update(ctx context.Context, db records.DB, j *Job) error {
	rec, err := record(*j)
	if err != nil {
		return err
	}
	err = db.Update(ctx, func(tx records.Tx) (err error) {
		rec, err = tx.Update(ctx, rec)
		return err
	})
	if errors.Is(err, records.ErrConflict) || errors.Is(err, records.ErrNotFound) {
		return fmt.Errorf("%w: %w", ErrTaken, err)
	}
	if err == nil {
		j.version = rec.Version
	}
	return err
}

func record(j Job) (records.Record, error) {
	body, err := resource.Encode(j.body, document{
		Kind: j.Kind, Input: j.Input, Every: j.Every, Cursor: j.Cursor, Progress: j.Progress,
		Failures: j.Failures, Error: j.Error, Due: j.Due.UTC(),
	})
	if err != nil {
		return records.Record{}, fmt.Errorf("job %s: %w", j.Name, err)
	}
	return records.Record{Kind: records.Jobs, Name: j.Name, Org: j.Org, State: string(j.State), Version: j.version, Body: body}, nil
}

func parse(rec records.Record) (Job, error) {
	var d document
	if err := json.Unmarshal(rec.Body, &d); err != nil {
		return Job{}, fmt.Errorf("job record %s: %w", rec.Name, err)
	}
	return Job{
		Name: rec.Name, Org: rec.Org, State: State(rec.State), Kind: d.Kind, Input: d.Input, Every: d.Every,
		Cursor: d.Cursor, Progress: d.Progress, Failures: d.Failures, Error: d.Error, Due: d.Due,
		CreateTime: rec.CreateTime, UpdateTime: rec.UpdateTime, version: rec.Version, body: rec.Body,
	}, nil
}
