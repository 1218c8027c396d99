package work

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/openova-io/bp-relay/loadtest/internal/result"
	"github.com/openova-io/bp-relay/services/blob"
)

const (
	// squeezeAbove is the size in bytes above which a part is compressed, so that
	// hours of timeline fit into one object.
	squeezeAbove = 8 << 20
	// maxPart bounds the size of a decompressed part, in bytes.
	maxPart = 512 << 20
)

// ErrPart is returned if an object is not the part that its key names.
var ErrPart = errors.New("work: not a part of this run")

// Put stores the part of a worker. Putting the same part again succeeds, also
// after a lost answer. If the worker's key holds another part, Put fails with
// blob.ErrExists and changes nothing: two processes run as the same worker, or
// the run's id was used before. An unavailable store is retried for
// Config.Patience.
func (c *Coordinator) Put(ctx context.Context, w Worker, part *result.Report) error {
	body, err := encodePart(w, part)
	if err != nil {
		return err
	}
	err = c.patiently(ctx, "part", func() error { return c.objects.Put(ctx, w.key("part"), body) })
	if errors.Is(err, blob.ErrExists) {
		return fmt.Errorf("work: run %s already has another part of worker %d of %d; start each run under a new id: %w", w.Run, w.Index, w.Count, err)
	}
	if err != nil {
		return fmt.Errorf("work: part of worker %d of %d of run %s: %w", w.Index, w.Count, w.Run, err)
	}
	return nil
}

// Parts returns the parts of a run in the order of the workers. It fails with a
// MissingError if some are missing, and with ErrPart if the id has parts of
// runs with different numbers of workers.
func (c *Coordinator) Parts(ctx context.Context, run string) ([]*result.Report, error) {
	if err := checkRun(run); err != nil {
		return nil, err
	}
	var keys []string
	err := c.patiently(ctx, "list", func() (err error) {
		keys, err = c.objects.List(ctx, folderOf(run))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("work: list run %s: %w", run, err)
	}
	workers, err := present(run, "part", keys)
	if err != nil {
		return nil, err
	}
	if len(workers) == 0 {
		return nil, fmt.Errorf("work: run %s has no parts in this store; check the run's id and the store's address: %w", run, blob.ErrNotFound)
	}
	count := workers[0].Count
	if missing := absent(workers, count); len(missing) > 0 {
		return nil, &MissingError{Run: run, What: "stored their part", Workers: missing, Count: count}
	}
	parts := make([]*result.Report, count)
	for i, w := range workers {
		var body []byte
		err := c.patiently(ctx, "part", func() (err error) {
			body, err = c.objects.Get(ctx, w.key("part"))
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("work: part of worker %d of run %s: %w", w.Index, run, err)
		}
		if parts[i], err = decodePart(w, body); err != nil {
			return nil, err
		}
	}
	return parts, nil
}

// present returns the workers that have an object of the kind, by index: List
// returns keys in order, and numbers of five digits sort by value.
func present(run, kind string, keys []string) ([]Worker, error) {
	var workers []Worker
	for _, key := range keys {
		k, w, ok := parseKey(run, key)
		if !ok || k != kind {
			continue
		}
		if len(workers) > 0 && w.Count != workers[0].Count {
			return nil, fmt.Errorf("%w: run %s has objects of %d and of %d workers; start each run under a new id", ErrPart, run, workers[0].Count, w.Count)
		}
		workers = append(workers, w)
	}
	return workers, nil
}

// absent returns the indexes below count that are not among workers.
func absent(workers []Worker, count int) []int {
	there := make([]bool, count)
	for _, w := range workers {
		there[w.Index] = true
	}
	var missing []int
	for i, ok := range there {
		if !ok {
			missing = append(missing, i)
		}
	}
	return missing
}

func encodePart(w Worker, part *result.Report) ([]byte, error) {
	if err := w.Check(); err != nil {
		return nil, err
	}
	if err := checkPart(w, part); err != nil {
		return nil, err
	}
	body, err := json.Marshal(part)
	if err != nil {
		return nil, fmt.Errorf("work: write the part: %w", err)
	}
	if len(body) <= squeezeAbove {
		return body, nil
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b) // has no time, so the same part yields the same bytes
	_, err = z.Write(body)
	if err = errors.Join(err, z.Close()); err != nil {
		return nil, fmt.Errorf("work: compress the part: %w", err)
	}
	return b.Bytes(), nil
}

// decodePart reads a part, compressed or not: JSON never begins with gzip's
// magic number.
func decodePart(w Worker, body []byte) (*result.Report, error) {
	if bytes.HasPrefix(body, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err == nil {
			body, err = io.ReadAll(io.LimitReader(z, maxPart+1))
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrPart, w.key("part"), err)
		}
		if len(body) > maxPart {
			return nil, fmt.Errorf("%w: %s is larger than %d bytes", ErrPart, w.key("part"), maxPart)
		}
	}
	part := new(result.Report)
	if err := json.Unmarshal(body, part); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrPart, w.key("part"), err)
	}
	return part, checkPart(w, part)
}

// checkPart returns an error if a report is not the part of w.
func checkPart(w Worker, part *result.Report) error {
	if part.Schema != result.Schema {
		return fmt.Errorf("%w: %s has schema %q, this program writes %q: merge with the version that ran", ErrPart, w.key("part"), part.Schema, result.Schema)
	}
	if len(part.Parts) != 1 || part.Parts[0].Worker != w.Index || part.Parts[0].Workers != w.Count {
		return fmt.Errorf("%w: %s is not the report of worker %d of %d alone", ErrPart, w.key("part"), w.Index, w.Count)
	}
	return nil
}
