package work

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/openova-io/bp-relay/services/blob"
)

// Errors of Barrier that callers decide by.
var (
	// ErrLate: the common start had passed when this worker heard of it.
	ErrLate = errors.New("work: too late for the start")
	// ErrClock: this worker's clock is off by more than Config.Skew.
	ErrClock = errors.New("work: the clocks differ")
	// ErrDiffer: the workers were not given the same scenario.
	ErrDiffer = errors.New("work: the workers' scenarios differ")
)

// Start is what the workers agreed on.
type Start struct {
	// At is the moment of the start, by worker 0's clock.
	At time.Time
	// OffsetLow and OffsetHigh bound how far this worker's clock is ahead of
	// worker 0's, from what each saw of the other's objects. They are as far
	// apart as two looks at the store: good enough to start together and to
	// find a wrong clock, not for one-way latencies of milliseconds.
	OffsetLow, OffsetHigh time.Duration
}

// Bound is the most that the clock can be off.
func (s Start) Bound() time.Duration { return max(s.OffsetLow.Abs(), s.OffsetHigh.Abs()) }

// ready is a worker's announcement.
type ready struct {
	Worker int       `json:"worker"`
	Host   string    `json:"host"`
	Digest string    `json:"scenario"`
	Time   time.Time `json:"time"`  // by its clock, before the object was written
	Nonce  string    `json:"nonce"` // tells two processes apart that take themselves for one worker
}

// start is worker 0's word.
type start struct {
	At   time.Time   `json:"at"`
	Time time.Time   `json:"time"` // when it was written
	Seen []time.Time `json:"seen"` // when each worker's announcement was first seen
	// Refused says why there is no start: then all end at once, not by timeout.
	Refused string `json:"refused,omitempty"`
}

// Barrier announces the worker and returns when all of the run have done so
// and agreed on a start; it does not wait for the start itself (Start.Wait).
// Digest is the same for all workers with the same scenario. After
// Config.Timeout it fails with a MissingError that names who is not there.
func (s *Store) Barrier(ctx context.Context, w Worker, digest string) (Start, error) {
	if err := w.Check(); err != nil {
		return Start{}, err
	}
	host, err := os.Hostname()
	if err != nil {
		return Start{}, fmt.Errorf("work: this machine's name: %w", err)
	}
	me := ready{Worker: w.Index, Host: host, Digest: digest, Time: s.config.Now(), Nonce: rand.Text()}
	err = s.write(ctx, w.key("ready"), me)
	if errors.Is(err, blob.ErrExists) {
		return Start{}, taken(w, err)
	}
	if err != nil {
		return Start{}, fmt.Errorf("work: announce worker %d of run %s: %w", w.Index, w.Run, err)
	}
	st, err := s.agree(ctx, w, me)
	if err != nil {
		return Start{}, err
	}
	return s.agreed(w, me, st)
}

// agree is what takes all workers: it ends with Config.Timeout.
func (s *Store) agree(ctx context.Context, w Worker, me ready) (st start, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.config.Timeout)
	defer cancel()
	if w.Index == 0 {
		st, err = s.lead(ctx, w, me)
	} else {
		st, err = s.follow(ctx, w, me)
	}
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return st, s.absentees(ctx, w, err)
	}
	return st, err
}

// Wait waits for the start by the clock that now reads. It fails only with the
// reason why ctx ended.
func (s Start) Wait(ctx context.Context, now func() time.Time) error {
	return sleep(ctx, s.At.Sub(now()))
}

// lead is worker 0's part: wait for all, then say when.
func (s *Store) lead(ctx context.Context, w Worker, me ready) (start, error) {
	st := start{Seen: make([]time.Time, w.Count)}
	for {
		workers, err := s.announced(ctx, w)
		if err != nil {
			return st, err
		}
		now := s.config.Now()
		for _, o := range workers {
			if !st.Seen[o.Index].IsZero() {
				continue
			}
			var r ready
			if err := s.read(ctx, o.key("ready"), &r); err != nil {
				return st, fmt.Errorf("work: announcement of worker %d of run %s: %w", o.Index, w.Run, err)
			}
			if r.Digest != me.Digest {
				st.Refused = fmt.Sprintf("worker %d (%s) of run %s has another than worker 0: give all the same file", o.Index, r.Host, w.Run)
				return st, errors.Join(fmt.Errorf("%w: %s", ErrDiffer, st.Refused), s.write(ctx, startKey(w.Run), st))
			}
			st.Seen[o.Index] = now
		}
		if len(workers) == w.Count {
			break
		}
		if err := sleep(ctx, s.config.Poll); err != nil {
			return st, err
		}
	}
	if err := s.still(ctx, w, me); err != nil {
		return st, err
	}
	st.Time = s.config.Now()
	st.At = st.Time.Add(s.config.Lead).UTC()
	if err := s.write(ctx, startKey(w.Run), st); err != nil {
		return st, fmt.Errorf("work: name the start of run %s: %w", w.Run, err)
	}
	return st, nil
}

// follow is everybody else's.
func (s *Store) follow(ctx context.Context, w Worker, me ready) (start, error) {
	for {
		var st start
		err := s.read(ctx, startKey(w.Run), &st)
		if err == nil {
			if st.Refused != "" {
				return st, fmt.Errorf("%w: %s", ErrDiffer, st.Refused)
			}
			if len(st.Seen) != w.Count {
				return st, fmt.Errorf("%w: the start of run %s is of %d workers, not %d", ErrPart, w.Run, len(st.Seen), w.Count)
			}
			return st, s.still(ctx, w, me)
		}
		if ctx.Err() == nil && !errors.Is(err, blob.ErrNotFound) {
			return st, fmt.Errorf("work: start of run %s: %w", w.Run, err)
		}
		if err := sleep(ctx, s.config.Poll); err != nil {
			return st, err
		}
	}
}

// still looks whether the announcement that is there is ours: a weak S3 store
// lets two in that came in the same moment, and keeps the last one's.
func (s *Store) still(ctx context.Context, w Worker, me ready) error {
	var there ready
	if err := s.read(ctx, w.key("ready"), &there); err != nil {
		return fmt.Errorf("work: announcement of worker %d of run %s: %w", w.Index, w.Run, err)
	}
	if there.Nonce != me.Nonce {
		return taken(w, blob.ErrExists)
	}
	return nil
}

func taken(w Worker, err error) error {
	return fmt.Errorf("work: another process is worker %d of run %s, or was; start each run under an id of its own: %w", w.Index, w.Run, err)
}

// announced are the workers that have announced themselves.
func (s *Store) announced(ctx context.Context, w Worker) ([]Worker, error) {
	var keys []string
	err := s.patiently(ctx, "announcements", func() (err error) {
		keys, err = s.objects.List(ctx, folderOf(w.Run))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("work: list run %s: %w", w.Run, err)
	}
	workers, err := present(w.Run, "ready", keys)
	if err == nil && len(workers) > 0 && workers[0].Count != w.Count {
		err = fmt.Errorf("%w: run %s is of %d workers, not %d", ErrPart, w.Run, workers[0].Count, w.Count)
	}
	return workers, err
}

// absentees says who is missing, now that the time is over: it looks a last
// time, with a little time of its own.
func (s *Store) absentees(ctx context.Context, w Worker, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	workers, err := s.announced(ctx, w)
	if err != nil {
		return errors.Join(cause, err)
	}
	e := &MissingError{Run: w.Run, What: "announced themselves", Workers: absent(workers, w.Count), Count: w.Count, Cause: cause}
	if len(e.Workers) == 0 { // all are there, so it is worker 0's fault
		e.What, e.Workers = "named the start", []int{0}
	}
	return e
}

// agreed works out what the two clocks say of each other. With t the true time
// and c, c0 the two clocks: the announcement was written at c = me.Time and
// seen later, at c0 = Seen, so c-c0 is at least me.Time-Seen; the start was
// written at c0 = st.Time and seen later, now by c, so c-c0 is at most
// now-st.Time.
func (s *Store) agreed(w Worker, me ready, st start) (Start, error) {
	now := s.config.Now()
	out := Start{At: st.At}
	if w.Index > 0 {
		out.OffsetLow, out.OffsetHigh = me.Time.Sub(st.Seen[w.Index]), now.Sub(st.Time)
	}
	if skew := s.config.Skew; out.OffsetLow > skew || out.OffsetHigh < -skew {
		return out, fmt.Errorf("%w: worker %d's is between %v and %v ahead of worker 0's, accepted is %v; set them by NTP or PTP",
			ErrClock, w.Index, out.OffsetLow, out.OffsetHigh, skew)
	}
	if late := now.Sub(st.At); late > 0 {
		return out, fmt.Errorf("%w: worker %d heard of it %v after; is the store slow, or another run under this id?", ErrLate, w.Index, late)
	}
	return out, nil
}

// write puts a small object.
func (s *Store) write(ctx context.Context, key string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.patiently(ctx, key, func() error { return s.objects.Put(ctx, key, body) })
}

// read gets a small object.
func (s *Store) read(ctx context.Context, key string, v any) error {
	var body []byte
	err := s.patiently(ctx, key, func() (err error) {
		body, err = s.objects.Get(ctx, key)
		return err
	})
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrPart, key, err)
	}
	return nil
}
