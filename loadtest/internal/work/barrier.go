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

// Errors of Barrier.
var (
	// ErrLate is returned if the common start had passed when this worker read it.
	ErrLate = errors.New("work: too late for the start")
	// ErrClock is returned if this worker's clock is off by more than Config.Skew.
	ErrClock = errors.New("work: the clocks differ")
	// ErrDiffer is returned if the workers have different scenarios.
	ErrDiffer = errors.New("work: the workers' scenarios differ")
)

// Start is the start that the workers agreed on.
type Start struct {
	// At is the moment of the start, by worker 0's clock.
	At time.Time
	// OffsetLow and OffsetHigh bound how far this worker's clock is ahead of worker
	// 0's, from the times at which each saw the other's objects. They differ by two
	// polls of the store: precise enough to start together and to detect a wrong
	// clock, not to measure one-way latencies of milliseconds.
	OffsetLow, OffsetHigh time.Duration
}

// Bound returns the largest possible offset of the clock.
func (s Start) Bound() time.Duration { return max(s.OffsetLow.Abs(), s.OffsetHigh.Abs()) }

// ready is a worker's announcement.
type ready struct {
	Worker int       `json:"worker"`
	Host   string    `json:"host"`
	Digest string    `json:"scenario"`
	Time   time.Time `json:"time"`  // by the worker's clock, before it wrote the object
	Nonce  string    `json:"nonce"` // distinguishes two processes that run as the same worker
}

// start is worker 0's decision.
type start struct {
	At   time.Time   `json:"at"`
	Time time.Time   `json:"time"` // when it was written
	Seen []time.Time `json:"seen"` // when each worker's announcement was first seen
	// Refused is the reason why there is no start: all workers then fail
	// immediately, without waiting for the timeout.
	Refused string `json:"refused,omitempty"`
}

// Barrier announces the worker and returns when all workers of the run have
// announced themselves and agreed on a start; it does not wait for the start
// itself (Start.Wait). Digest is the same for all workers with the same scenario.
// After Config.Timeout it fails with a MissingError that names the missing
// workers.
func (c *Coordinator) Barrier(ctx context.Context, w Worker, digest string) (Start, error) {
	if err := w.Check(); err != nil {
		return Start{}, err
	}
	host, err := os.Hostname()
	if err != nil {
		return Start{}, fmt.Errorf("work: this machine's name: %w", err)
	}
	me := ready{Worker: w.Index, Host: host, Digest: digest, Time: c.config.Now(), Nonce: rand.Text()}
	err = c.write(ctx, w.key("ready"), me)
	if errors.Is(err, blob.ErrExists) {
		return Start{}, taken(w, err)
	}
	if err != nil {
		return Start{}, fmt.Errorf("work: announce worker %d of run %s: %w", w.Index, w.Run, err)
	}
	st, err := c.agree(ctx, w, me)
	if err != nil {
		return Start{}, err
	}
	return c.agreed(w, me, st)
}

// agree waits for all workers, at most Config.Timeout.
func (c *Coordinator) agree(ctx context.Context, w Worker, me ready) (st start, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	if w.Index == 0 {
		st, err = c.lead(ctx, w, me)
	} else {
		st, err = c.follow(ctx, w, me)
	}
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return st, c.absentees(ctx, w, err)
	}
	return st, err
}

// Wait waits for the start by the clock that now reads. Its only error is ctx's
// cause.
func (s Start) Wait(ctx context.Context, now func() time.Time) error {
	return sleep(ctx, s.At.Sub(now()))
}

// lead is worker 0's side: it waits for all workers and sets the start.
func (c *Coordinator) lead(ctx context.Context, w Worker, me ready) (start, error) {
	st := start{Seen: make([]time.Time, w.Count)}
	for {
		workers, err := c.announced(ctx, w)
		if err != nil {
			return st, err
		}
		now := c.config.Now()
		for _, o := range workers {
			if !st.Seen[o.Index].IsZero() {
				continue
			}
			var r ready
			if err := c.read(ctx, o.key("ready"), &r); err != nil {
				return st, fmt.Errorf("work: announcement of worker %d of run %s: %w", o.Index, w.Run, err)
			}
			if r.Digest != me.Digest {
				st.Refused = fmt.Sprintf("worker %d (%s) of run %s has a different scenario than worker 0: give all workers the same file", o.Index, r.Host, w.Run)
				return st, errors.Join(fmt.Errorf("%w: %s", ErrDiffer, st.Refused), c.write(ctx, startKey(w.Run), st))
			}
			st.Seen[o.Index] = now
		}
		if len(workers) == w.Count {
			break
		}
		if err := sleep(ctx, c.config.Poll); err != nil {
			return st, err
		}
	}
	if err := c.still(ctx, w, me); err != nil {
		return st, err
	}
	st.Time = c.config.Now()
	st.At = st.Time.Add(c.config.Lead).UTC()
	if err := c.write(ctx, startKey(w.Run), st); err != nil {
		return st, fmt.Errorf("work: name the start of run %s: %w", w.Run, err)
	}
	return st, nil
}

// follow is the other workers' side.
func (c *Coordinator) follow(ctx context.Context, w Worker, me ready) (start, error) {
	for {
		var st start
		err := c.read(ctx, startKey(w.Run), &st)
		if err == nil {
			if st.Refused != "" {
				return st, fmt.Errorf("%w: %s", ErrDiffer, st.Refused)
			}
			if len(st.Seen) != w.Count {
				return st, fmt.Errorf("%w: the start of run %s is for %d workers, not %d", ErrPart, w.Run, len(st.Seen), w.Count)
			}
			return st, c.still(ctx, w, me)
		}
		if ctx.Err() == nil && !errors.Is(err, blob.ErrNotFound) {
			return st, fmt.Errorf("work: start of run %s: %w", w.Run, err)
		}
		if err := sleep(ctx, c.config.Poll); err != nil {
			return st, err
		}
	}
}

// still checks that the stored announcement is this worker's: an S3 store without
// conditional puts may accept two at the same moment and keep the last.
func (c *Coordinator) still(ctx context.Context, w Worker, me ready) error {
	var there ready
	if err := c.read(ctx, w.key("ready"), &there); err != nil {
		return fmt.Errorf("work: announcement of worker %d of run %s: %w", w.Index, w.Run, err)
	}
	if there.Nonce != me.Nonce {
		return taken(w, blob.ErrExists)
	}
	return nil
}

func taken(w Worker, err error) error {
	return fmt.Errorf("work: another process is or was worker %d of run %s; start each run under a new id: %w", w.Index, w.Run, err)
}

// announced returns the workers that have announced themselves.
func (c *Coordinator) announced(ctx context.Context, w Worker) ([]Worker, error) {
	var keys []string
	err := c.patiently(ctx, "announcements", func() (err error) {
		keys, err = c.objects.List(ctx, folderOf(w.Run))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("work: list run %s: %w", w.Run, err)
	}
	workers, err := present(w.Run, "ready", keys)
	if err == nil && len(workers) > 0 && workers[0].Count != w.Count {
		err = fmt.Errorf("%w: run %s has %d workers, not %d", ErrPart, w.Run, workers[0].Count, w.Count)
	}
	return workers, err
}

// absentees returns the error of the workers that are missing after the
// timeout: it reads the store once more, with a short timeout.
func (c *Coordinator) absentees(ctx context.Context, w Worker, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	workers, err := c.announced(ctx, w)
	if err != nil {
		return errors.Join(cause, err)
	}
	e := &MissingError{Run: w.Run, What: "announced themselves", Workers: absent(workers, w.Count), Count: w.Count, Cause: cause}
	if len(e.Workers) == 0 { // all announced themselves, but worker 0 named no start
		e.What, e.Workers = "named the start", []int{0}
	}
	return e
}

// agreed computes the bounds of the offset between the two clocks. With t the true time
// and c, c0 the two clocks: the announcement was written at c = me.Time and seen later,
// at c0 = Seen, so c-c0 is at least me.Time-Seen; the start was written at c0 = st.Time
// and seen later, now by c, so c-c0 is at most now-st.Time.
func (c *Coordinator) agreed(w Worker, me ready, st start) (Start, error) {
	now := c.config.Now()
	out := Start{At: st.At}
	if w.Index > 0 {
		out.OffsetLow, out.OffsetHigh = me.Time.Sub(st.Seen[w.Index]), now.Sub(st.Time)
	}
	if skew := c.config.Skew; out.OffsetLow > skew || out.OffsetHigh < -skew {
		return out, fmt.Errorf("%w: worker %d's is between %v and %v ahead of worker 0's, the limit is %v; synchronise them by NTP or PTP",
			ErrClock, w.Index, out.OffsetLow, out.OffsetHigh, skew)
	}
	if late := now.Sub(st.At); late > 0 {
		return out, fmt.Errorf("%w: worker %d read it %v after the start; check whether the store is slow, or another run used this id", ErrLate, w.Index, late)
	}
	return out, nil
}

// write puts a small object.
func (c *Coordinator) write(ctx context.Context, key string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.patiently(ctx, key, func() error { return c.objects.Put(ctx, key, body) })
}

// read gets a small object.
func (c *Coordinator) read(ctx context.Context, key string, v any) error {
	var body []byte
	err := c.patiently(ctx, key, func() (err error) {
		body, err = c.objects.Get(ctx, key)
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
